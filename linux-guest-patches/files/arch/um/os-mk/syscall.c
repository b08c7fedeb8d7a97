// SPDX-License-Identifier: GPL-2.0
/* System calls: dispatch, and the few that are the architecture's own. */

#include <linux/audit.h>
#include <linux/nospec.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <asm/mk.h>
#include <asm/prctl.h>
#include <asm/syscall.h>
#include <asm/unistd.h>
#include "os-mk.h"

/* The last component that programs must ask for before they use it. */
#define XFEATURE_XTILEDATA	18
#define PKEY_RIGHTS		3

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

	/* Of the register, the lower half is the number, as on x86-64. */
	nr = (int)PT_REGS_SYSCALL_NR(regs);
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
	/* CPUID works and cannot be made to fault, as on many processors. */
	case ARCH_GET_CPUID:
		return 1;
	case ARCH_SET_CPUID:
		return -ENODEV;
	/* No component has to be asked for: AMX is off. */
	case ARCH_GET_XCOMP_SUPP:
	case ARCH_GET_XCOMP_PERM:
		return put_user(mk_boot->xcr0, (u64 __user *)arg);
	case ARCH_REQ_XCOMP_PERM:
		return arg > XFEATURE_XTILEDATA ? -EINVAL : -EOPNOTSUPP;
	/* No shadow stack is in use. */
	case ARCH_SHSTK_STATUS:
		return put_user(0UL, (unsigned long __user *)arg);
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

int mk_get_tsc_mode(unsigned long address)
{
	return put_user(PR_TSC_ENABLE, (unsigned int __user *)address);
}

int mk_set_tsc_mode(unsigned int mode)
{
	return mode == PR_TSC_ENABLE ? 0 : -EINVAL;
}

/* No protection keys, as on a processor without them. */

SYSCALL_DEFINE2(pkey_alloc, unsigned long, flags, unsigned long, init_val)
{
	return flags || init_val & ~PKEY_RIGHTS ? -EINVAL : -ENOSPC;
}

SYSCALL_DEFINE1(pkey_free, int, pkey)
{
	return -EINVAL;
}

SYSCALL_DEFINE4(pkey_mprotect, unsigned long, start, size_t, len,
		unsigned long, prot, int, pkey)
{
	return pkey == -1 ? sys_mprotect(start, len, prot) : -EINVAL;
}
