// SPDX-License-Identifier: GPL-2.0
/*
 * A decoupled thread's life: it fills its frame, lets the compute core run
 * it, sleeps until the core traps, and goes back to the loop that handles the
 * trap as it handles every other thread's.
 */
#include <linux/math64.h>
#include <linux/moduleparam.h>
#include <linux/posix-timers.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <asm/decouple.h>
#include <asm/processor-flags.h>
#include "decouple.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "decouple."

/*
 * A program often has its next system call soon after the last, and going to
 * sleep costs more than the core's next trap: look for it this long first,
 * unless another thread wants to run here.
 */
static unsigned int spin_us = 50;
module_param(spin_us, uint, 0644);
MODULE_PARM_DESC(spin_us, "microseconds to wait for a trap before sleeping");

static void answer(struct decouple_core *core)
{
	struct mk_decoupled_frame *frame = core->frame;

	/*
	 * The exchange is a full fence on every configuration, so `sleeping`
	 * is read after the answer is visible: either the core sees the
	 * answer before it halts, or it is seen here to sleep.
	 */
	xchg(&frame->state, MK_FRAME_ANSWERED);
	if (READ_ONCE(frame->sleeping))
		mk_invoke(core->thread, MK_THREAD_WAKE, 0, 0, 0, 0);
}

/*
 * Speaks to a core that waits for an answer: it is to write its extended state
 * into the frame, which is trapped as before then, or to give up the context,
 * or both. (It is idle also where the thread was ended meanwhile.)
 */
static void ask(struct decouple_core *core, u32 request)
{
	struct mk_decoupled_frame *frame = core->frame;
	bool detach = request & MK_ANSWER_DETACH;
	u32 state;

	frame->answer = request;
	answer(core);
	do {
		cpu_relax();
		state = smp_load_acquire(&frame->state);
	} while (state != MK_FRAME_IDLE &&
		 (detach || state != MK_FRAME_TRAPPED));

	if (request & MK_ANSWER_SAVE)
		memcpy(core->task->thread.fpu.xsave, frame->xsave,
		       mk_boot->xsave_bytes);
}

/*
 * With the lock of the state held. While it is on the core, t->thread.decoupled
 * stays: decouple_take_away() needs that lock.
 */
void decouple_fetch_xstate(struct task_struct *t)
{
	ask(t->thread.decoupled, MK_ANSWER_SAVE);
}

static void take_context(struct decouple_core *core)
{
	struct mk_fpu *fpu = &core->task->thread.fpu;
	u32 request = MK_ANSWER_DETACH;

	raw_spin_lock(&fpu->lock);
	if (fpu_leave_core(&fpu->where) == FPU_SAVE_CORE)
		request |= MK_ANSWER_SAVE;
	core->frame->item_count = 0;
	ask(core, request);
	raw_spin_unlock(&fpu->lock);
}

/**
 * decouple_take_away() - take the context out of a core, which is free then
 * @core: its occupant is in Linux, perhaps asleep. decouple_lock is held.
 *
 * The registers are in Linux since the trap. All else comes over here, so
 * that the occupant need not run, and is not woken.
 */
void decouple_take_away(struct decouple_core *core)
{
	struct task_struct *task = core->task;

	lockdep_assert_held(&decouple_lock);
	if (core->entered) {
		take_context(core);
		atomic_dec(&task->mm->context.decoupled);
	}
	decouple_release(core);
}

/* The address space goes away: exit, or exec. */
void __decouple_leave_mm(struct task_struct *t)
{
	unsigned long flags;

	if (t != current)
		return;
	spin_lock_irqsave(&decouple_lock, flags);
	if (t->thread.decoupled)
		decouple_take_away(t->thread.decoupled);
	spin_unlock_irqrestore(&decouple_lock, flags);
}

/* Does the core run @t's user code, while Linux's scheduler takes it to sleep? */
bool __decouple_runs(struct task_struct *t)
{
	struct decouple_core *core = READ_ONCE(t->thread.decoupled);

	return core && READ_ONCE(core->away);
}

/*
 * The context of current moves into the frame; the first resume() starts it.
 * Until `entered` is set somebody else may take the core away from current
 * again, so the frame must not be touched before.
 */
static bool go_over(struct decouple_core *core)
{
	unsigned long flags;
	bool mine;

	mk_fpu_save(current);

	spin_lock_irqsave(&decouple_lock, flags);
	mine = current->thread.decoupled == core;
	if (mine) {
		core->entered = true;
		core->away = true;
	}
	spin_unlock_irqrestore(&decouple_lock, flags);
	if (!mine)
		return false;

	atomic_inc(&current->mm->context.decoupled);
	wake_up_all(&decouple_changed);
	return true;
}

/*
 * Does current run on its compute core? It may have been asked to leave, and
 * one that is in Linux may have lost the core any time.
 */
static bool enter(struct decouple_core *core)
{
	unsigned long flags;
	bool mine, entered;

	spin_lock_irqsave(&decouple_lock, flags);
	mine = core && current->thread.decoupled == core;
	if (mine && core->leave) {
		decouple_take_away(core);
		mine = false;
	}
	entered = mine && core->entered;
	if (entered)
		WRITE_ONCE(core->away, true);
	spin_unlock_irqrestore(&decouple_lock, flags);

	return entered || (mine && go_over(core));
}

/* Gives the core the extended state where it has an older one. */
static enum fpu_todo give_xstate(struct mk_decoupled_frame *frame)
{
	struct mk_fpu *fpu = &current->thread.fpu;
	enum fpu_todo todo;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	todo = fpu_run_on_core(&fpu->where);
	if (todo == FPU_LOAD)
		memcpy(frame->xsave, fpu->xsave, mk_boot->xsave_bytes);
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
	frame->answer = todo == FPU_LOAD ? MK_ANSWER_XSTATE : 0;
	return todo;
}

/* The core did not run current, and @todo came to nothing. */
static void refused(enum fpu_todo todo)
{
	struct mk_fpu *fpu = &current->thread.fpu;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	fpu_refused(&fpu->where, todo);
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
}

/* Fills the frame and lets the core go on. */
static long resume(struct decouple_core *core, struct uml_pt_regs *regs,
		   long task, enum fpu_todo *todo)
{
	struct mk_decoupled_frame *frame = core->frame;
	unsigned long flags;
	long err = 0;

	memcpy(&frame->frame.regs, regs->gp, sizeof(frame->frame.regs));
	if (test_thread_flag(TIF_SINGLESTEP))
		frame->frame.regs.rflags |= X86_EFLAGS_TF;

	*todo = give_xstate(frame);

	if (READ_ONCE(frame->state) == MK_FRAME_IDLE) {
		/* Map items go with answers only: they wait for the first. */
		frame->item_count = 0;
		decouple_charge_start(core);
		err = mk_invoke(core->thread, MK_THREAD_RUN,
				task, 0, 0, 0);
		return err;
	}

	decouple_count_answer(core);
	decouple_charge_start(core);

	/* A flush on another CPU waits while items are on their way. */
	local_irq_save(flags);
	frame->item_count = mk_take_items(&core->inflight, current,
					  frame->items);
	mk_inflight_publish(&core->inflight);
	answer(core);
	local_irq_restore(flags);
	return 0;
}

/*
 * With interrupts off: the doorbell of the trap that is waited for then costs
 * no upcall. Whatever else this CPU could have to do comes with an interrupt,
 * which ends it.
 */
static bool spin_for_trap(struct decouple_core *core)
{
	u64 ticks = READ_ONCE(spin_us) *
		    div_u64(mk_boot->tsc_hz, USEC_PER_SEC);
	u64 start = mk_rdtsc();
	unsigned long flags;
	bool trapped;

	if (!single_task_running())
		return false;

	local_irq_save(flags);
	if (need_resched() || signal_pending(current))
		ticks = 0;
	while (!(trapped = decouple_trapped(core)) &&
	       !decouple_interrupt_pending() && mk_rdtsc() - start < ticks)
		cpu_relax();
	if (trapped)
		decouple_take_doorbell(core);
	local_irq_restore(flags);
	return trapped;
}

/* Is there anything but the trap for which the context of current must wake? */
static bool called(struct decouple_core *core)
{
	return READ_ONCE(core->leave) || READ_ONCE(core->timer_due);
}

/*
 * As the tick of one of Linux's CPUs does for the thread that it interrupts.
 * A signal for this thread ends the next wait, one for another does not.
 */
static void run_cpu_timers(struct decouple_core *core)
{
	WRITE_ONCE(core->timer_due, false);
	local_irq_disable();
	run_posix_cpu_timers();
	local_irq_enable();
}

static void wait_for_trap(struct decouple_core *core)
{
	if (spin_for_trap(core))
		return;

	/* Interruptible: it counts neither as load nor as hung. */
	while (!rcuwait_wait_event(&core->wait,
				   decouple_trapped(core) || called(core),
				   TASK_INTERRUPTIBLE)) {
		if (decouple_trapped(core))
			return;
		if (READ_ONCE(core->leave))
			break;
		run_cpu_timers(core);
	}

	/*
	 * A signal, a stop, the freezer, or a request to leave. If the thread
	 * traps by itself at this moment, either trap is good: it is in Linux
	 * then, and a stop that comes too late only returns once more.
	 */
	mk_invoke(core->thread, MK_THREAD_STOP, 0, 0, 0, 0);
	rcuwait_wait_event(&core->wait, decouple_trapped(core), TASK_IDLE);
}

/**
 * decouple_run() - run the user context of current on its core until a trap
 * @regs: registers, in and out; and what the trap was
 */
void decouple_run(struct uml_pt_regs *regs)
{
	struct decouple_core *core = READ_ONCE(current->thread.decoupled);
	struct mk_decoupled_frame *frame;
	enum fpu_todo todo;
	unsigned long flags;
	long task, err;

	task = mk_space_open(current->mm);
	if (task < 0) {
		regs->trapno = MK_TRAP_REFUSED;
		regs->error = MK_ERROR_NO_MEMORY;
		return;
	}

	/* Not decoupled any more: as if nothing had happened. */
	if (!enter(core)) {
		regs->trapno = MK_TRAP_STOP;
		return;
	}

	frame = core->frame;
	err = resume(core, regs, task, &todo);
	if (err) {
		pr_err("decouple: core %u does not run %s[%d]: %ld\n",
		       core->number, current->comm, task_pid_nr(current), err);
		refused(todo);
		atomic_dec(&current->mm->context.decoupled);
		spin_lock_irqsave(&decouple_lock, flags);
		core->entered = false;
		spin_unlock_irqrestore(&decouple_lock, flags);
		decouple_charge_stop(core);
		force_sig(SIGKILL);
		regs->trapno = MK_TRAP_STOP;
		return;
	}

	wait_for_trap(core);

	decouple_count_trap(core);

	memcpy(regs->gp, &frame->frame.regs, sizeof(frame->frame.regs));
	if (test_thread_flag(TIF_SINGLESTEP))
		regs->gp[HOST_EFLAGS] &= ~X86_EFLAGS_TF;
	frame->item_count = 0;
	regs->trapno = frame->frame.trapno;
	regs->error = frame->frame.error;
	regs->address = frame->frame.address;
	regs->is_user = 1;
	if (regs->trapno == MK_TRAP_REFUSED)
		refused(todo);
	else
		mk_items_applied(current);
	/* From here on others may take the context away. */
	decouple_charge_stop(core);
}
