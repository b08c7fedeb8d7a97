// SPDX-License-Identifier: GPL-2.0
/*
 * What a decoupled thread used: processor time, for /proc, and the counters
 * that sysfs shows.
 *
 * While a thread runs on a compute core, Linux's own CPUs may all be idle, but
 * the machine is not: one CPU keeps a tick, as on any Linux on which a thread
 * runs. It charges the time, and it keeps the coarse clocks in the vDSO's data
 * page (time(), CLOCK_*_COARSE) as fresh as their resolution promises. The
 * CPU's own statistics (/proc/stat) stay those of service cores.
 */
#include <linux/clocksource.h>
#include <linux/init.h>
#include <linux/math64.h>
#include <linux/posix-timers.h>
#include <linux/sched/cputime.h>
#include <linux/sched/signal.h>
#include <linux/timer.h>
#include "decouple.h"

static void charge_all(struct timer_list *timer);

static DEFINE_TIMER(charge_timer, charge_all);
unsigned int decouple_running;

static u32 ns_mult __ro_after_init, ns_shift __ro_after_init;

static int __init account_init(void)
{
	clocks_calc_mult_shift(&ns_mult, &ns_shift, mk_boot->tsc_hz,
			       NSEC_PER_SEC, 0);
	return 0;
}
early_initcall(account_init);

u64 decouple_ticks_to_ns(u64 ticks)
{
	return mul_u64_u32_shr(ticks, ns_mult, ns_shift);
}

static void charge(struct decouple_core *core, u64 tsc)
{
	struct task_struct *task = core->task;
	u64 ns;

	lockdep_assert_held(&decouple_lock);
	if (!core->running_since || tsc <= core->running_since)
		return;

	ns = decouple_ticks_to_ns(tsc - core->running_since);
	core->running_since = tsc;

	task->utime += ns;
	account_group_user_time(task, ns);
	/* /proc scales user and system time to this sum. */
	task->se.sum_exec_runtime += ns;
	account_group_exec_runtime(task, ns);
}

/* Up to now, or to the trap where the core has trapped already. */
static void charge_now(struct decouple_core *core)
{
	charge(core, decouple_trapped(core) ? core->frame->trap_tsc :
					      mk_rdtsc());
}

static bool expired(const struct posix_cputimers *timers, u64 user, u64 system,
		    u64 runtime)
{
	return user + system >= READ_ONCE(timers->bases[CPUCLOCK_PROF].nextevt) ||
	       user >= READ_ONCE(timers->bases[CPUCLOCK_VIRT].nextevt) ||
	       runtime >= READ_ONCE(timers->bases[CPUCLOCK_SCHED].nextevt);
}

/* What the tick of a CPU asks about its current thread: is a CPU timer due? */
static bool cpu_timer_due(struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct task_cputime_atomic *group = &signal->cputimer.cputime_atomic;

	if (expired(&task->posix_cputimers, task->utime, task->stime,
		    task->se.sum_exec_runtime))
		return true;
	return READ_ONCE(signal->posix_cputimers.timers_active) &&
	       expired(&signal->posix_cputimers, atomic64_read(&group->utime),
		       atomic64_read(&group->stime),
		       atomic64_read(&group->sum_exec_runtime));
}

/*
 * The tick of the compute cores, on one of Linux's CPUs. Whose CPU timer is
 * due is woken in Linux: the core is stopped only if that makes a signal for
 * this very thread.
 */
static void charge_all(struct timer_list *timer)
{
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&decouple_lock, flags);
	for (i = 0; i < decouple_count; i++) {
		struct decouple_core *core = &decouple_cores[i];

		if (!core->running_since)
			continue;
		charge_now(core);
		if (cpu_timer_due(core->task)) {
			core->timer_due = true;
			rcuwait_wake_up(&core->wait);
		}
	}
	if (decouple_running)
		mod_timer(&charge_timer, jiffies + 1);
	spin_unlock_irqrestore(&decouple_lock, flags);
}

void decouple_charge_start(struct decouple_core *core)
{
	unsigned long flags;

	spin_lock_irqsave(&decouple_lock, flags);
	core->running_since = mk_rdtsc();
	WRITE_ONCE(decouple_running, decouple_running + 1);
	if (!timer_pending(&charge_timer))
		mod_timer(&charge_timer, jiffies + 1);
	spin_unlock_irqrestore(&decouple_lock, flags);
}

/* The occupant of @core trapped, and what it was is out of the frame. */
void decouple_charge_stop(struct decouple_core *core)
{
	unsigned long flags;

	spin_lock_irqsave(&decouple_lock, flags);
	charge(core, core->frame->trap_tsc);
	core->running_since = 0;
	WRITE_ONCE(core->away, false);
	WRITE_ONCE(decouple_running, decouple_running - 1);
	spin_unlock_irqrestore(&decouple_lock, flags);
}

void __decouple_charge_group(struct task_struct *t)
{
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&decouple_lock, flags);
	for (i = 0; i < decouple_count; i++) {
		struct decouple_core *core = &decouple_cores[i];

		if (core->running_since && same_thread_group(core->task, t))
			charge_now(core);
	}
	spin_unlock_irqrestore(&decouple_lock, flags);
}

void decouple_count_trap(struct decouple_core *core)
{
	struct mk_trap_frame *frame = &core->frame->frame;
	struct decouple_stats *stats = &core->stats;

	core->call = DECOUPLE_SYSCALLS;
	switch (frame->trapno) {
	case MK_TRAP_SYSCALL:
		core->call = frame->regs.orig_rax;
		stats->syscalls++;
		break;
	case 14: /* page fault */
		stats->faults++;
		break;
	case MK_TRAP_STOP:
		stats->stops++;
		break;
	default:
		stats->traps++;
	}
}

/* The answer to the last trap is about to be given. */
void decouple_count_answer(struct decouple_core *core)
{
	struct decouple_stats *stats = &core->stats;
	u64 ticks = mk_rdtsc() - core->frame->trap_tsc;

	stats->answer_ticks += ticks;
	if (core->call < DECOUPLE_SYSCALLS) {
		stats->by_number[core->call].count++;
		stats->by_number[core->call].ticks += ticks;
	}
}
