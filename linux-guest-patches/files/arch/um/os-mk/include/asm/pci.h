/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_MK_PCI_H
#define __UM_MK_PCI_H

#include <linux/types.h>
#include <asm/io.h>

/* The firmware has numbered the busses and assigned the BARs. */
#define pcibios_assign_all_busses()	0

#include <asm-generic/pci.h>

struct irq_domain;

struct irq_domain *mk_msi_domain(void);

#endif /* __UM_MK_PCI_H */
