/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_HARDIRQ_H
#define __UM_HARDIRQ_H
#include <asm-generic/hardirq.h>
#define __ARCH_IRQ_EXIT_IRQS_DISABLED 1

/* For /proc/stat: interrupts that no irq_desc counts. */
u64 mk_irq_stat_cpu(unsigned int cpu);
#define arch_irq_stat_cpu	mk_irq_stat_cpu
#endif
