/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_MMU_CONTEXT_H
#define __UM_MMU_CONTEXT_H

#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/mm_types.h>
#include <linux/smp.h>

#include <asm/decouple.h>
#include <asm/mmu.h>

void mk_space_close(struct mm_struct *mm);

/* The Task is made when the first thread runs: this cannot fail. */
static inline int init_new_context(struct task_struct *task, struct mm_struct *mm)
{
	mm->context = (mm_context_t) { };
	spin_lock_init(&mm->context.lock);
	return 0;
}
#define init_new_context init_new_context

/*
 * Nobody will run in it any more. An mm_struct may outlive this for as long as
 * somebody holds a file of its /proc folder open; its Task need not.
 */
static inline void arch_exit_mmap(struct mm_struct *mm)
{
	mk_space_close(mm);
}

int arch_dup_mmap(struct mm_struct *oldmm, struct mm_struct *mm);

static inline bool arch_vma_access_permitted(struct vm_area_struct *vma,
					     bool write, bool execute, bool foreign)
{
	return true;
}

/* A thread that leaves its mm also leaves its compute core. */
#define deactivate_mm(task, mm) decouple_leave_mm(task)

/*
 * The Task is named at each resume: there is nothing to switch. While a CPU is
 * in mm_cpumask() it may name the Task, which then is not dropped.
 */
static inline void switch_mm(struct mm_struct *prev, struct mm_struct *next,
			     struct task_struct *task)
{
	unsigned int cpu = smp_processor_id();

	if (prev != next) {
		prev->context.used = jiffies;
		cpumask_clear_cpu(cpu, mm_cpumask(prev));
		/* Locked, hence before the Task's slot is read. */
		cpumask_set_cpu(cpu, mm_cpumask(next));
	}
}

#include <asm-generic/mmu_context.h>

#endif
