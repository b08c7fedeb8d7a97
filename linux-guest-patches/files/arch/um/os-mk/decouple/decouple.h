/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inside the decoupling driver.
 *
 * Who may change what:
 * - decouple_lock guards who occupies and who reserves a core (task, entered,
 *   away, leave, reserved, generation) and task->thread.decoupled.
 * - While its occupant is away, a core's frame belongs to the occupant's own
 *   Linux context, which fills it and waits for the trap. While the occupant
 *   is in Linux, the frame belongs to whoever holds decouple_lock.
 * - A thread becomes an occupant by somebody's claim; it goes over by itself,
 *   at its next return to user mode (entered). One that is in Linux may be
 *   asleep for long: its context is taken from the core without waking it. One
 *   that is away is asked to leave, and does so by itself.
 */
#ifndef __DECOUPLE_H
#define __DECOUPLE_H

#include <linux/pid.h>
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <asm/mk.h>
#include <asm/timex.h>

struct kobject;

/* System calls with numbers below are counted one by one. */
#define DECOUPLE_SYSCALLS	512

struct decouple_count {
	u64 count;
	u64 ticks;
};

/* Of the present occupant or, on an idle core, of the last one. Ticks of TSC. */
struct decouple_stats {
	u64 since_ns;
	u64 syscalls;
	u64 faults;
	u64 traps;
	u64 stops;
	u64 answer_ticks;
	struct decouple_count by_number[DECOUPLE_SYSCALLS];
};

/* One open file of /dev/decouple. */
struct decouple_file {
	struct pid *owner;	/* process that reserved through it */
};

struct decouple_core {
	unsigned int number;
	int thread;		/* slot of the decoupled Thread */
	struct mk_decoupled_frame *frame;
	struct mk_inflight inflight;
	struct rcuwait wait;
	struct kobject *kobj;

	struct task_struct *task;
	u64 generation;		/* counts the claims */
	bool entered;		/* the context of task is in the frame */
	bool away;		/* task runs on the core, or is about to */
	bool leave;		/* task was asked to leave */
	struct decouple_file *reserved;

	u64 running_since;	/* TSC up to which task was charged, or 0 */
	bool timer_due;		/* a CPU timer of task, or of its process */
	u64 call;		/* system call of the last trap, or too large */
	struct decouple_stats stats;
	kuid_t owner;		/* of the counters that the last task left */
};

extern struct decouple_core *decouple_cores;
extern unsigned int decouple_count;
extern spinlock_t decouple_lock;
extern wait_queue_head_t decouple_changed;

/* core.c */
struct decouple_core *decouple_claim(struct task_struct *task, int number,
				     struct decouple_file *file,
				     u64 *generation);
void decouple_release(struct decouple_core *core);
bool decouple_is_service_core(unsigned int number);
struct decouple_core *decouple_find_core(unsigned int number);
void decouple_take_doorbell(struct decouple_core *core);

/* account.c */
void decouple_charge_start(struct decouple_core *core);
void decouple_charge_stop(struct decouple_core *core);
void decouple_count_trap(struct decouple_core *core);
void decouple_count_answer(struct decouple_core *core);
u64 decouple_ticks_to_ns(u64 ticks);

/* run.c */
void decouple_take_away(struct decouple_core *core);

/* sysfs.c */
int decouple_sysfs_init(void);

static inline bool decouple_trapped(struct decouple_core *core)
{
	/* The core stores the state after the rest of the frame. */
	return smp_load_acquire(&core->frame->state) == MK_FRAME_TRAPPED;
}

/*
 * With interrupts off: does one wait for this CPU, other than the doorbell?
 * (GS base is this vCPU's page.)
 */
static __always_inline bool decouple_interrupt_pending(void)
{
	u64 pending;

	asm volatile("movq %%gs:%c1, %0"
		     : "=r" (pending)
		     : "i" (offsetof(struct mk_vcpu_state, pending)));
	return pending & ~BIT_ULL(MK_PENDING_DOORBELL_BIT);
}

#endif /* __DECOUPLE_H */
