// SPDX-License-Identifier: GPL-2.0
/* Threads: how they start, how one gives way to another, how they idle. */

#include <linux/cpu.h>
#include <linux/export.h>
#include <linux/kallsyms.h>
#include <linux/mm.h>
#include <linux/personality.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/debug.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/uaccess.h>
#include <asm/exec.h>
#include <asm/mk.h>
#include <asm/stacktrace.h>
#include <asm/switch_to.h>
#include "os-mk.h"

struct task_struct *__sched __switch_to(struct task_struct *from, struct task_struct *to)
{
	if (!(from->flags & PF_KTHREAD))
		mk_fpu_switch_out(from);
	return mk_switch_stack(from, to);
}

asmlinkage __visible void mk_new_thread(struct task_struct *prev)
{
	struct thread_struct *thread = &current->thread;

	schedule_tail(prev);
	/* Returns only where the kernel thread became a user program. */
	if (thread->kthread_fn)
		thread->kthread_fn(thread->kthread_arg);
	thread->kthread_fn = NULL;
	mk_user_loop();
}

/* What mk_switch_stack() pops: six registers and where to go on. */
static void prepare_stack(struct task_struct *task)
{
	unsigned long *sp = task_stack_page(task) + THREAD_SIZE - 16;

	*--sp = (unsigned long)mk_thread_entry;
	sp -= 6;
	memset(sp, 0, 6 * sizeof(*sp));
	task->thread.sp = (unsigned long)sp;
}

static void init_regs(struct pt_regs *regs)
{
	memset(regs, 0, sizeof(*regs));
	PT_REGS_REG(regs, ORIG_AX) = -1;
	mk_user_segments(regs);
	PT_REGS_EFLAGS(regs) = 0x202;
	regs->regs.is_user = 1;
}

int copy_thread(struct task_struct *p, const struct kernel_clone_args *args)
{
	struct pt_regs *regs = task_pt_regs(p);

	p->thread.noted_count = 0;
	p->thread.grown = 0;
	p->thread.kthread_fn = args->fn;
	p->thread.kthread_arg = args->fn_arg;
	prepare_stack(p);
	if (args->fn) {
		init_regs(regs);
		mk_fpu_reset(p);
		return 0;
	}

	*regs = *current_pt_regs();
	PT_REGS_AX(regs) = 0;
	if (args->stack)
		PT_REGS_SP(regs) = args->stack;
	if (args->flags & CLONE_SETTLS)
		PT_REGS_REG(regs, FS_BASE) = args->tls;
	mk_fpu_copy(current, p);
	return 0;
}

int arch_dup_task_struct(struct task_struct *dst, struct task_struct *src)
{
	*dst = *src;
	dst->thread.decoupled = NULL;
	raw_spin_lock_init(&dst->thread.fpu.lock);
	return 0;
}

void flush_thread(void)
{
	init_regs(current_pt_regs());
	mk_fpu_reset(current);
	current->thread.noted_count = 0;
	current->thread.grown = 0;
}

void start_thread(struct pt_regs *regs, unsigned long ip, unsigned long sp)
{
	PT_REGS_IP(regs) = ip;
	PT_REGS_SP(regs) = sp;
}
EXPORT_SYMBOL(start_thread);

void exit_thread(struct task_struct *task)
{
	mk_fpu_forget(task);
}

void arch_cpu_idle(void)
{
	mk_wait();
}

unsigned long arch_align_stack(unsigned long sp)
{
	if (!(current->personality & ADDR_NO_RANDOMIZE) && randomize_va_space)
		sp -= get_random_u32_below(8192);
	return sp & ~0xf;
}

static bool find_wchan(void *data, unsigned long address)
{
	if (in_sched_functions(address))
		return true;
	*(unsigned long *)data = address;
	return false;
}

unsigned long __get_wchan(struct task_struct *p)
{
	unsigned long address = 0;

	/* Where it waits for its compute core is no place in the program. */
	if (arch_task_runs(p) || !try_get_task_stack(p))
		return 0;
	mk_walk_stack(p, NULL, find_wchan, &address);
	put_task_stack(p);
	return address;
}
