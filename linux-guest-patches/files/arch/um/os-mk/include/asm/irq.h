/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_IRQ_H
#define __UM_IRQ_H

/* Every interrupt is a bit of `pending`; Linux numbers are made by irq_domain. */
#define NR_IRQS	128

#include <asm-generic/irq.h>

#endif
