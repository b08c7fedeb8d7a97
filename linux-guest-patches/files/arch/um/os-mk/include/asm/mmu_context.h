/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_MMU_CONTEXT_H
#define __UM_MMU_CONTEXT_H

#include <linux/cpumask.h>
#include <linux/mm_types.h>
#include <linux/smp.h>

#include <asm/decouple.h>
#include <asm/mmu.h>

int init_new_context(struct task_struct *task, struct mm_struct *mm);
#define init_new_context init_new_context
void destroy_context(struct mm_struct *mm);
#define destroy_context destroy_context

int arch_dup_mmap(struct mm_struct *oldmm, struct mm_struct *mm);

static inline void arch_exit_mmap(struct mm_struct *mm)
{
}

static inline bool arch_vma_access_permitted(struct vm_area_struct *vma,
					     bool write, bool execute, bool foreign)
{
	return true;
}

/* A thread that leaves its mm also leaves its compute core. */
#define deactivate_mm(task, mm) decouple_leave_mm(task)

/* The Task is named at each resume: there is nothing to switch. */
static inline void switch_mm(struct mm_struct *prev, struct mm_struct *next,
			     struct task_struct *task)
{
	unsigned int cpu = smp_processor_id();

	if (prev != next) {
		cpumask_clear_cpu(cpu, mm_cpumask(prev));
		cpumask_set_cpu(cpu, mm_cpumask(next));
	}
}

#include <asm-generic/mmu_context.h>

#endif
