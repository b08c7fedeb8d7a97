/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_MK_DMA_DIRECT_H
#define __UM_MK_DMA_DIRECT_H

#include <asm/mk.h>

/*
 * Linux's memory is one contiguous range of machine memory: a device is told
 * the offset into it plus the machine address of its first byte.
 */
static inline dma_addr_t phys_to_dma(struct device *dev, phys_addr_t phys)
{
	return phys + mk_boot->dma_base;
}

static inline phys_addr_t dma_to_phys(struct device *dev, dma_addr_t addr)
{
	return addr - mk_boot->dma_base;
}

#endif /* __UM_MK_DMA_DIRECT_H */
