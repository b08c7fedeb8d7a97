/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Device memory is mapped into Linux's own address space by the microkernel;
 * from then on it is read and written with plain loads and stores. There is
 * no port I/O.
 */
#ifndef __UM_MK_IO_H
#define __UM_MK_IO_H

#include <linux/types.h>

/*
 * In Linux's view of physical addresses, RAM begins at 0 (it is an offset into
 * Linux's memory range) and device memory lies at its machine address plus
 * this, so that the two can never meet.
 */
#define MK_DEVICE_PHYS	(1ULL << 45)

void __iomem *mk_map_device(u64 slot, u64 offset, size_t size);

void __iomem *ioremap(phys_addr_t phys, size_t size);
#define ioremap ioremap
void iounmap(volatile void __iomem *addr);
#define iounmap iounmap

#include <asm-generic/io.h>

#endif /* __UM_MK_IO_H */
