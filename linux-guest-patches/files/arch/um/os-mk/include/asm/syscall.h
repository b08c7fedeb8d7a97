/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_SYSCALL_H
#define __UM_SYSCALL_H

/* See asm-generic/syscall.h. */

#include <linux/err.h>
#include <linux/sched.h>
#include <uapi/linux/audit.h>
#include <asm/ptrace.h>

typedef asmlinkage long (*sys_call_ptr_t)(unsigned long, unsigned long,
					  unsigned long, unsigned long,
					  unsigned long, unsigned long);

extern const sys_call_ptr_t sys_call_table[];

static inline int syscall_get_nr(struct task_struct *task, struct pt_regs *regs)
{
	return PT_REGS_SYSCALL_NR(regs);
}

static inline void syscall_rollback(struct task_struct *task,
				    struct pt_regs *regs)
{
	PT_REGS_AX(regs) = PT_REGS_SYSCALL_NR(regs);
}

static inline long syscall_get_error(struct task_struct *task,
				     struct pt_regs *regs)
{
	long ret = PT_REGS_AX(regs);

	return IS_ERR_VALUE(ret) ? ret : 0;
}

static inline long syscall_get_return_value(struct task_struct *task,
					    struct pt_regs *regs)
{
	return PT_REGS_AX(regs);
}

static inline void syscall_set_return_value(struct task_struct *task,
					    struct pt_regs *regs,
					    int error, long val)
{
	PT_REGS_AX(regs) = (long)error ?: val;
}

static inline void syscall_get_arguments(struct task_struct *task,
					 struct pt_regs *regs,
					 unsigned long *args)
{
	args[0] = PT_REGS_REG(regs, DI);
	args[1] = PT_REGS_REG(regs, SI);
	args[2] = PT_REGS_REG(regs, DX);
	args[3] = PT_REGS_REG(regs, R10);
	args[4] = PT_REGS_REG(regs, R8);
	args[5] = PT_REGS_REG(regs, R9);
}

static inline int syscall_get_arch(struct task_struct *task)
{
	return AUDIT_ARCH_X86_64;
}

#endif
