/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_THREAD_INFO_H
#define __UM_THREAD_INFO_H

#include <asm/page.h>

#define THREAD_SIZE_ORDER CONFIG_KERNEL_STACK_ORDER
#define THREAD_SIZE (PAGE_SIZE << CONFIG_KERNEL_STACK_ORDER)

#ifndef __ASSEMBLY__

#include <asm/current.h>

struct thread_info {
	unsigned long	flags;		/* TIF_* */
	int		preempt_count;	/* 0: preemptable, < 0: bug */
	u32		cpu;
};

#define INIT_THREAD_INFO(tsk)				\
{							\
	.flags		= 0,				\
	.preempt_count	= INIT_PREEMPT_COUNT,		\
}

#endif

#define TIF_SYSCALL_TRACE	0	/* ptrace stops at system calls */
#define TIF_SIGPENDING		1
#define TIF_NEED_RESCHED	2
#define TIF_NOTIFY_SIGNAL	3
#define TIF_RESTART_BLOCK	4
#define TIF_MEMDIE		5	/* is terminating due to OOM killer */
#define TIF_SYSCALL_AUDIT	6
#define TIF_RESTORE_SIGMASK	7
#define TIF_NOTIFY_RESUME	8
#define TIF_SECCOMP		9
#define TIF_SINGLESTEP		10
#define TIF_SYSCALL_EMU		11	/* the tracer answers system calls */

#define _TIF_SYSCALL_TRACE	BIT(TIF_SYSCALL_TRACE)
#define _TIF_SIGPENDING		BIT(TIF_SIGPENDING)
#define _TIF_NEED_RESCHED	BIT(TIF_NEED_RESCHED)
#define _TIF_NOTIFY_SIGNAL	BIT(TIF_NOTIFY_SIGNAL)
#define _TIF_SYSCALL_AUDIT	BIT(TIF_SYSCALL_AUDIT)
#define _TIF_NOTIFY_RESUME	BIT(TIF_NOTIFY_RESUME)
#define _TIF_SECCOMP		BIT(TIF_SECCOMP)
#define _TIF_SINGLESTEP		BIT(TIF_SINGLESTEP)
#define _TIF_SYSCALL_EMU	BIT(TIF_SYSCALL_EMU)

/* Work before the user context runs on. */
#define _TIF_WORK_MASK		(_TIF_NEED_RESCHED | _TIF_SIGPENDING |	\
				 _TIF_NOTIFY_SIGNAL | _TIF_NOTIFY_RESUME)
#define _TIF_SYSCALL_WORK	(_TIF_SYSCALL_TRACE | _TIF_SYSCALL_AUDIT |	\
				 _TIF_SECCOMP | _TIF_SINGLESTEP |	\
				 _TIF_SYSCALL_EMU)

#endif
