// SPDX-License-Identifier: GPL-2.0
/* What a crash prints, and stack traces. */

#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/debug.h>
#include <linux/sched/task_stack.h>
#include <linux/stacktrace.h>
#include <linux/utsname.h>
#include <asm/mk.h>
#include <asm/stacktrace.h>
#include "os-mk.h"

/* A frame begins with the caller's frame pointer; the return address follows. */
struct frame {
	struct frame *caller;
	unsigned long address;
};

void mk_walk_stack(struct task_struct *task, const struct pt_regs *regs,
		   bool (*fn)(void *data, unsigned long address), void *data)
{
	unsigned long low = (unsigned long)task_stack_page(task);
	unsigned long high = low + THREAD_SIZE - sizeof(struct frame);
	struct frame *frame;

	if (regs) {
		if (!fn(data, PT_REGS_IP(regs)))
			return;
		frame = (struct frame *)PT_REGS_BP(regs);
	} else if (task == current) {
		frame = __builtin_frame_address(0);
	} else {
		/* mk_switch_stack() pushed the frame pointer first. */
		frame = (struct frame *)(READ_ONCE(task->thread.sp) + 5 * sizeof(long));
	}

	while ((unsigned long)frame >= low && (unsigned long)frame <= high) {
		low = (unsigned long)frame + 1;
		if (!__kernel_text_address(READ_ONCE_NOCHECK(frame->address)) ||
		    !fn(data, READ_ONCE_NOCHECK(frame->address)))
			return;
		frame = READ_ONCE_NOCHECK(frame->caller);
	}
}

static bool print_address(void *data, unsigned long address)
{
	printk("%s %pS\n", (const char *)data, (void *)address);
	return true;
}

void show_stack(struct task_struct *task, unsigned long *sp, const char *level)
{
	printk("%sCall Trace:\n", level);
	mk_walk_stack(task ?: current, NULL, print_address, (void *)level);
}

void show_regs(struct pt_regs *regs)
{
	show_regs_print_info(KERN_DEFAULT);
	pr_info("RIP: %pS (%lx)\n", (void *)PT_REGS_IP(regs), PT_REGS_IP(regs));
	pr_info("trap %lu error %lx address %lx\n", regs->regs.trapno,
		regs->regs.error, regs->regs.address);
	pr_info("RSP: %016lx EFLAGS: %08lx\n", PT_REGS_SP(regs), PT_REGS_EFLAGS(regs));
	pr_info("RAX: %016lx RBX: %016lx RCX: %016lx\n", PT_REGS_REG(regs, AX),
		PT_REGS_REG(regs, BX), PT_REGS_REG(regs, CX));
	pr_info("RDX: %016lx RSI: %016lx RDI: %016lx\n", PT_REGS_REG(regs, DX),
		PT_REGS_REG(regs, SI), PT_REGS_REG(regs, DI));
	pr_info("RBP: %016lx R08: %016lx R09: %016lx\n", PT_REGS_REG(regs, BP),
		PT_REGS_REG(regs, R8), PT_REGS_REG(regs, R9));
	pr_info("R10: %016lx R11: %016lx R12: %016lx\n", PT_REGS_REG(regs, R10),
		PT_REGS_REG(regs, R11), PT_REGS_REG(regs, R12));
	pr_info("R13: %016lx R14: %016lx R15: %016lx\n", PT_REGS_REG(regs, R13),
		PT_REGS_REG(regs, R14), PT_REGS_REG(regs, R15));
}

void mk_die(const char *what, struct pt_regs *regs)
{
	char line[128];
	int n;

	/* First to where no driver can be in the way. */
	n = scnprintf(line, sizeof(line), "Linux: %s: trap %lu error %lx address %lx at %pS\n",
		      what, regs->regs.trapno, regs->regs.error, regs->regs.address,
		      (void *)PT_REGS_IP(regs));
	mk_log_write(line, n);

	console_verbose();
	bust_spinlocks(1);
	pr_emerg("%s\n", what);
	show_regs(regs);
	pr_info("Call Trace:\n");
	mk_walk_stack(current, regs, print_address, KERN_INFO);
	bust_spinlocks(0);
	add_taint(TAINT_DIE, LOCKDEP_NOW_UNRELIABLE);
	/* A page table's lock may be held: user copies fault too. */
	panic("%s", what);
}

#ifdef CONFIG_STACKTRACE
static bool save_address(void *data, unsigned long address)
{
	struct stack_trace *trace = data;

	if (trace->nr_entries >= trace->max_entries)
		return false;
	if (trace->skip)
		trace->skip--;
	else
		trace->entries[trace->nr_entries++] = address;
	return true;
}

void save_stack_trace(struct stack_trace *trace)
{
	mk_walk_stack(current, NULL, save_address, trace);
}
EXPORT_SYMBOL_GPL(save_stack_trace);

void save_stack_trace_tsk(struct task_struct *task, struct stack_trace *trace)
{
	if (!try_get_task_stack(task))
		return;
	mk_walk_stack(task, NULL, save_address, trace);
	put_task_stack(task);
}
EXPORT_SYMBOL_GPL(save_stack_trace_tsk);
#endif
