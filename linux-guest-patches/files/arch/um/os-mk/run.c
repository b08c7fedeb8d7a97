// SPDX-License-Identifier: GPL-2.0
/* The loop in which a user thread spends its life. */

#include <linux/mm.h>
#include <linux/resume_user_mode.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <asm/mk.h>
#ifdef CONFIG_DECOUPLE
#include <asm/decouple.h>
#endif
#include "os-mk.h"

#define EFLAGS_TF	0x100
/* Flat segments of the user, as x86-64 Linux has them. */
#define USER_CS		0x33
#define USER_SS		0x2b

static_assert(sizeof(struct mk_trap_frame) == offsetof(struct uml_pt_regs, is_user));
static_assert(offsetof(struct mk_trap_frame, regs) == offsetof(struct uml_pt_regs, gp));

static struct mk_inflight vcpu_inflight[NR_CPUS];

static int __init run_init(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		vcpu_inflight[cpu].item_count = &mk_vcpu_of(cpu)->item_count;
		mk_inflight_register(&vcpu_inflight[cpu]);
	}
	return 0;
}
early_initcall(run_init);

/* With interrupts off on the way in and on the way out. */
static void run_on_vcpu(struct pt_regs *regs)
{
	struct mk_vcpu_state *vcpu = mk_vcpu_of(mk_cpu());
	struct mk_inflight *fl = &vcpu_inflight[mk_cpu()];
	bool step = test_thread_flag(TIF_SINGLESTEP);
	long task, status;

	mk_fpu_load();
	memcpy(&vcpu->frame.regs, regs->regs.gp, sizeof(vcpu->frame.regs));
	if (step)
		vcpu->frame.regs.rflags |= EFLAGS_TF;
	task = mk_space_open(current->mm);
	status = task;
	if (likely(task > 0)) {
		vcpu->user_task = task;
		vcpu->item_count = mk_take_items(fl, current, vcpu->items);
		mk_inflight_publish(fl);
		status = mk_resume_user();
	}

	memcpy(&regs->regs, &vcpu->frame, sizeof(vcpu->frame));
	regs->regs.is_user = 1;
	if (step)
		PT_REGS_EFLAGS(regs) &= ~EFLAGS_TF;
	/* Interrupted before it ran: no longer at the end of a system call. */
	if (regs->regs.trapno != MK_TRAP_SYSCALL)
		PT_REGS_SYSCALL_NR(regs) = -1;
	vcpu->item_count = 0;
	if (unlikely(status)) {
		regs->regs.trapno = MK_TRAP_REFUSED;
		regs->regs.error = -status;
		return;
	}
	mk_items_applied(current);
}

/* As the microkernel has them, too. Debuggers tell 64 bit by these. */
void mk_user_segments(struct pt_regs *regs)
{
	PT_REGS_REG(regs, CS) = USER_CS;
	PT_REGS_REG(regs, SS) = USER_SS;
}

/* Returns with interrupts off and nothing left to do. */
static void exit_work(struct pt_regs *regs)
{
	unsigned long work;

	local_irq_disable();
	while ((work = read_thread_flags()) & _TIF_WORK_MASK) {
		local_irq_enable();
		if (work & _TIF_NEED_RESCHED)
			schedule();
		if (work & (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL))
			mk_do_signal(regs);
		if (work & _TIF_NOTIFY_RESUME)
			resume_user_mode_work(regs);
		local_irq_disable();
	}
}

void mk_user_loop(void)
{
	struct pt_regs *regs = current_pt_regs();

	for (;;) {
		exit_work(regs);
#ifdef CONFIG_DECOUPLE
		if (unlikely(decouple_active(current))) {
			local_irq_enable();
			/* Sleeps until the thread's next trap on its core. */
			decouple_run(&regs->regs);
			mk_user_segments(regs);
			mk_user_trap(regs);
			continue;
		}
#endif
		run_on_vcpu(regs);
		mk_user_segments(regs);
		if (regs->regs.trapno == MK_TRAP_IRQ) {
			mk_handle_pending(regs);
			continue;
		}
		local_irq_enable();
		mk_user_trap(regs);
	}
}
