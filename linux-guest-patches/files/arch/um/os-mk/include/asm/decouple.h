/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads on compute cores: what the rest of the port calls.
 */
#ifndef __UM_MK_DECOUPLE_H
#define __UM_MK_DECOUPLE_H

#include <linux/types.h>

struct task_struct;
struct uml_pt_regs;

#ifdef CONFIG_DECOUPLE

void decouple_run(struct uml_pt_regs *regs);
void __decouple_leave_mm(struct task_struct *t);
/* Let the compute core of @t, which is in Linux, write its registers to memory. */
void decouple_fetch_xstate(struct task_struct *t);
bool __decouple_runs(struct task_struct *t);
void __decouple_charge_group(struct task_struct *t);

/* How many threads run on compute cores at this moment. */
extern unsigned int decouple_running;

/* Shall @t, which is current, run its user context on a compute core? */
#define decouple_active(t)	unlikely(READ_ONCE((t)->thread.decoupled))

/* @t, which is current, is about to give up its address space. */
#define decouple_leave_mm(t)						\
	do {								\
		if (unlikely(READ_ONCE((t)->thread.decoupled)))		\
			__decouple_leave_mm(t);				\
	} while (0)

/*
 * To the scheduler a decoupled thread sleeps while its core runs it. What
 * programs are told about it is asked for here.
 */
#define arch_task_runs(t)						\
	(unlikely(READ_ONCE((t)->thread.decoupled)) && __decouple_runs(t))
#define arch_nr_running()	READ_ONCE(decouple_running)

/* Processor time of the process of @t is about to be read: bring it up to now. */
#define arch_charge_group(t)						\
	do {								\
		if (unlikely(READ_ONCE(decouple_running)))		\
			__decouple_charge_group(t);			\
	} while (0)

#else

#define decouple_active(t)		false
#define arch_task_runs(t)		false
#define decouple_leave_mm(t)		do { (void)(t); } while (0)

static inline void decouple_run(struct uml_pt_regs *regs)
{
}

static inline void decouple_fetch_xstate(struct task_struct *t)
{
}

#endif /* CONFIG_DECOUPLE */

#endif /* __UM_MK_DECOUPLE_H */
