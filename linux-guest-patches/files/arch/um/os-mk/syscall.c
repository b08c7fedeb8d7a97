// SPDX-License-Identifier: GPL-2.0
/* System calls: dispatch, and the few that are the architecture's own. */

#include <linux/audit.h>
#include <linux/nospec.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <asm/prctl.h>
#include <asm/syscall.h>
#include <asm/unistd.h>
#include "os-mk.h"

static bool trace_enter(struct pt_regs *regs, unsigned long work)
{
	if (work & (_TIF_SYSCALL_TRACE | _TIF_SYSCALL_EMU) &&
	    (ptrace_report_syscall_entry(regs) || work & _TIF_SYSCALL_EMU))
		return false;
	if (work & _TIF_SECCOMP && secure_computing() == -1)
		return false;
	audit_syscall_entry(PT_REGS_SYSCALL_NR(regs), PT_REGS_REG(regs, DI),
			    PT_REGS_REG(regs, SI), PT_REGS_REG(regs, DX),
			    PT_REGS_REG(regs, R10));
	return true;
}

static void trace_leave(struct pt_regs *regs, unsigned long work)
{
	audit_syscall_exit(regs);
	/* An emulated call ended at its entry, and was reported there. */
	if (work & _TIF_SYSCALL_EMU)
		work &= ~_TIF_SINGLESTEP;
	if (work & (_TIF_SYSCALL_TRACE | _TIF_SINGLESTEP))
		ptrace_report_syscall_exit(regs, work & _TIF_SINGLESTEP);
}

void mk_do_syscall(struct pt_regs *regs)
{
	unsigned long work = read_thread_flags() & _TIF_SYSCALL_WORK;
	long nr;

	/* What a tracer sees on entry, and what a bad number returns. */
	PT_REGS_AX(regs) = -ENOSYS;
	if (unlikely(work) && !trace_enter(regs, work))
		goto out;

	nr = PT_REGS_SYSCALL_NR(regs);
	if (likely((unsigned long)nr < NR_syscalls)) {
		nr = array_index_nospec(nr, NR_syscalls);
		PT_REGS_AX(regs) = sys_call_table[nr](PT_REGS_REG(regs, DI),
						      PT_REGS_REG(regs, SI),
						      PT_REGS_REG(regs, DX),
						      PT_REGS_REG(regs, R10),
						      PT_REGS_REG(regs, R8),
						      PT_REGS_REG(regs, R9));
	}
out:
	work = read_thread_flags() & _TIF_SYSCALL_WORK;
	if (unlikely(work))
		trace_leave(regs, work);
}

SYSCALL_DEFINE2(arch_prctl, int, option, unsigned long, arg)
{
	struct pt_regs *regs = current_pt_regs();

	switch (option) {
	case ARCH_SET_FS:
		if (arg >= TASK_SIZE_MAX)
			return -EPERM;
		PT_REGS_REG(regs, FS_BASE) = arg;
		return 0;
	case ARCH_SET_GS:
		if (arg >= TASK_SIZE_MAX)
			return -EPERM;
		PT_REGS_REG(regs, GS_BASE) = arg;
		return 0;
	case ARCH_GET_FS:
		return put_user(PT_REGS_REG(regs, FS_BASE), (unsigned long __user *)arg);
	case ARCH_GET_GS:
		return put_user(PT_REGS_REG(regs, GS_BASE), (unsigned long __user *)arg);
	default:
		return -EINVAL;
	}
}

SYSCALL_DEFINE6(mmap, unsigned long, addr, unsigned long, len,
		unsigned long, prot, unsigned long, flags,
		unsigned long, fd, unsigned long, off)
{
	if (off & ~PAGE_MASK)
		return -EINVAL;
	return ksys_mmap_pgoff(addr, len, prot, flags, fd, off >> PAGE_SHIFT);
}
