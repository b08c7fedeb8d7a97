/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_IRQFLAGS_H
#define __UM_IRQFLAGS_H

/*
 * The interrupt flag is a bit in the vCPU's page. Only this vCPU and the
 * microkernel, when it interrupts this vCPU, write it: one instruction is
 * enough, and none is a system call. Enabling looks for interrupts that became
 * pending while they were off.
 */

#include <asm/current.h>

void mk_irq_pending(void);

#define ARCH_IRQ_DISABLED	0
#define ARCH_IRQ_ENABLED	1

#define arch_local_save_flags arch_local_save_flags
static __always_inline unsigned long arch_local_save_flags(void)
{
	unsigned int flags;

	asm volatile("movl %%gs:%c1, %0"
		     : "=r" (flags) : "i" (MK_VCPU_FLAGS) : "memory");
	return flags & ARCH_IRQ_ENABLED;
}

#define arch_local_irq_disable arch_local_irq_disable
static __always_inline void arch_local_irq_disable(void)
{
	asm volatile("andl $~1, %%gs:%c0" : : "i" (MK_VCPU_FLAGS) : "memory", "cc");
}

#define arch_local_irq_enable arch_local_irq_enable
static __always_inline void arch_local_irq_enable(void)
{
	unsigned long pending;

	asm volatile("orl $1, %%gs:%c1\n\t"
		     "movq %%gs:%c2, %0"
		     : "=r" (pending)
		     : "i" (MK_VCPU_FLAGS), "i" (MK_VCPU_PENDING)
		     : "memory", "cc");
	if (unlikely(pending))
		mk_irq_pending();
}

#define arch_local_irq_restore arch_local_irq_restore
static __always_inline void arch_local_irq_restore(unsigned long flags)
{
	if (flags)
		arch_local_irq_enable();
	else
		arch_local_irq_disable();
}

#include <asm-generic/irqflags.h>

#endif
