/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_PROCESSOR_H
#define __UM_PROCESSOR_H

#include <linux/prefetch.h>
#include <linux/spinlock_types_raw.h>
#include <linux/types.h>
#include <asm/cpufeatures.h>
#include <asm/decouple.h>
#include <asm/fpu-home.h>
#include <asm/ptrace.h>

struct mm_struct;
struct task_struct;

/* Largest extended state: what a decoupled thread's frame has room for. */
#define MK_XSAVE_MAX	3072

/* A state: what the lock guards. Whoever needs it newest asks asm/fpu-home.h. */
struct mk_fpu {
	u8	xsave[MK_XSAVE_MAX] __aligned(64);
	struct fpu_where where;
	raw_spinlock_t lock;
};

/* Address ranges to enter in the Task at the next resume. */
#define MK_NOTED_FAULTS	8

struct mk_noted {
	unsigned long address;
	unsigned int pages;
};

struct thread_struct {
	/* Kernel stack pointer while another thread runs (entry.S). */
	unsigned long sp;
	int (*kthread_fn)(void *arg);
	void *kthread_arg;
	/* The last fault, for signal frames. */
	unsigned long trapno;
	unsigned long error;
	unsigned long address;
	unsigned int noted_count;
	struct mk_noted noted[MK_NOTED_FAULTS];
	/* Where page tables are perhaps made with what is mapped next; or 0. */
	unsigned long grown;
	/* What fork() flushes next was flushed already. */
	struct mm_struct *forked;
	struct pt_regs regs;
	/* Compute core that runs this thread's user context. */
	struct decouple_core *decoupled;
	struct mk_fpu fpu;
};

#define INIT_THREAD { }

#define task_pt_regs(t)		(&(t)->thread.regs)
#define KSTK_EIP(t)		PT_REGS_IP(task_pt_regs(t))
#define KSTK_ESP(t)		PT_REGS_SP(task_pt_regs(t))

/* The user's half of the address space, as on x86-64. */
#define TASK_SIZE	((1UL << 47) - 4096)
#define TASK_SIZE_MAX	TASK_SIZE
#define STACK_TOP	TASK_SIZE
#define STACK_TOP_MAX	TASK_SIZE
#define TASK_UNMAPPED_BASE	(PAGE_ALIGN(TASK_SIZE / 3))

void start_thread(struct pt_regs *regs, unsigned long ip, unsigned long sp);

static __always_inline void rep_nop(void)
{
	asm volatile("rep; nop" : : : "memory");
}

#define cpu_relax() rep_nop()

struct cpuinfo_um {
	unsigned long loops_per_jiffy;
	int cache_alignment;
	u8 x86;
	u8 x86_model;
	u8 x86_stepping;
	u8 x86_vendor;
	char vendor_id[16];
	char model_id[64];
	union {
		__u32		x86_capability[NCAPINTS + NBUGINTS];
		unsigned long	x86_capability_alignment;
	};
};

extern struct cpuinfo_um boot_cpu_data;

#define cpu_data(cpu)		boot_cpu_data
#define current_cpu_data	boot_cpu_data
#define cache_line_size()	(boot_cpu_data.cache_alignment)

/* The TSC can always be read: PR_SET_TSC to SIGSEGV is refused. */
int mk_get_tsc_mode(unsigned long address);
int mk_set_tsc_mode(unsigned int mode);
#define GET_TSC_CTL(address)	mk_get_tsc_mode(address)
#define SET_TSC_CTL(mode)	mk_set_tsc_mode(mode)

unsigned long __get_wchan(struct task_struct *p);

#endif
