/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_CURRENT_H
#define __UM_CURRENT_H

/*
 * GS base points to the vCPU's own page; its words that are free for Linux
 * hold what is per CPU.
 */
#ifndef COMPILE_OFFSETS
#include <generated/asm-offsets.h>
#endif

#ifndef __ASSEMBLY__
#include <linux/compiler.h>

struct task_struct;

#ifdef COMPILE_OFFSETS
#define MK_VCPU_CURRENT 0
#define MK_VCPU_CPU 0
#define MK_VCPU_PERCPU 0
#define MK_VCPU_FLAGS 0
#define MK_VCPU_PENDING 0
#endif

static __always_inline struct task_struct *get_current(void)
{
	struct task_struct *task;

	/* Not volatile: the same thread always reads the same value. */
	asm("movq %%gs:%c1, %0" : "=r" (task) : "i" (MK_VCPU_CURRENT));
	return task;
}
#define current get_current()

static __always_inline unsigned int mk_cpu(void)
{
	unsigned long cpu;

	asm volatile("movq %%gs:%c1, %0" : "=r" (cpu) : "i" (MK_VCPU_CPU));
	return cpu;
}
#endif

#endif
