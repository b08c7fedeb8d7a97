// SPDX-License-Identifier: GPL-2.0
/*
 * The extended state (x87, SSE, AVX, ...) belongs to user threads: the kernel
 * is compiled without it. It stays in the vCPU's registers while its owner, or
 * only the kernel, runs; XSAVE and XRSTOR need no privilege.
 */

#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/sched.h>
#include <asm/decouple.h>
#include <asm/mk.h>
#include "os-mk.h"

#define MXCSR_DEFAULT	0x1f80
#define FCW_DEFAULT	0x37f

/* In the legacy area, and the header behind it (SDM volume 1, 13.4). */
#define OFFSET_MXCSR	24
#define OFFSET_MXCSR_MASK	28
#define OFFSET_HEADER	512

/* Whose state each vCPU's registers hold. */
static struct task_struct *owner[NR_CPUS];
/* Bits of MXCSR that exist; others must not reach XRSTOR (SDM 1, 11.6.6). */
static u32 mxcsr_mask __ro_after_init = 0xffbf;

static int __init fpu_init(void)
{
	static u8 state[512] __initdata __aligned(16);
	u32 mask;

	asm volatile("fxsave64 (%0)" : : "r" (state) : "memory");
	mask = *(u32 *)(state + OFFSET_MXCSR_MASK);
	if (mask)
		mxcsr_mask = mask;
	return 0;
}
early_initcall(fpu_init);

static bool in_registers(struct task_struct *task)
{
	return task->thread.fpu.cpu == mk_cpu() && owner[mk_cpu()] == task;
}

/*
 * Also of a thread that is to be decoupled but has not gone over yet. For one
 * that has, xsave counts as saved, and nothing is done.
 */
void mk_fpu_switch_out(struct task_struct *task)
{
	struct mk_fpu *fpu = &task->thread.fpu;
	unsigned long flags;

	local_irq_save(flags);
	if (in_registers(task) && !fpu->saved) {
		if (mk_boot->xsave_bytes)
			asm volatile("xsave64 (%0)"
				     : : "r" (fpu->xsave), "a" (-1), "d" (-1) : "memory");
		else
			asm volatile("fxsave64 (%0)" : : "r" (fpu->xsave) : "memory");
		fpu->saved = true;
	}
	local_irq_restore(flags);
}

void mk_fpu_save(struct task_struct *task)
{
	/* On a compute core it is in the thread's frame. */
	if (!decouple_fpu_save(task))
		mk_fpu_switch_out(task);
}
EXPORT_SYMBOL_GPL(mk_fpu_save);

void mk_fpu_invalidate(struct task_struct *task)
{
	task->thread.fpu.cpu = -1;
	task->thread.fpu.saved = true;
	task->thread.fpu.changed = true;
}
EXPORT_SYMBOL_GPL(mk_fpu_invalidate);

/* Before current's user context runs, with interrupts off. */
void mk_fpu_load(void)
{
	struct mk_fpu *fpu = &current->thread.fpu;

	if (!in_registers(current)) {
		if (mk_boot->xsave_bytes)
			asm volatile("xrstor64 (%0)"
				     : : "r" (fpu->xsave), "a" (-1), "d" (-1) : "memory");
		else
			asm volatile("fxrstor64 (%0)" : : "r" (fpu->xsave) : "memory");
		fpu->cpu = mk_cpu();
		owner[mk_cpu()] = current;
	}
	fpu->saved = false;
}

void mk_fpu_reset(struct task_struct *task)
{
	u8 *state = task->thread.fpu.xsave;

	/* An empty header: XRSTOR takes the initial state. */
	memset(state, 0, MK_XSAVE_MAX);
	*(u16 *)state = FCW_DEFAULT;
	*(u32 *)(state + OFFSET_MXCSR) = MXCSR_DEFAULT;
	*(u32 *)(state + OFFSET_MXCSR_MASK) = mxcsr_mask;
	mk_fpu_invalidate(task);
}

void mk_fpu_copy(struct task_struct *from, struct task_struct *to)
{
	mk_fpu_save(from);
	memcpy(to->thread.fpu.xsave, from->thread.fpu.xsave, MK_XSAVE_MAX);
	mk_fpu_invalidate(to);
}

void mk_fpu_forget(struct task_struct *task)
{
	unsigned int cpu;

	for (cpu = 0; cpu < NR_CPUS; cpu++)
		cmpxchg(&owner[cpu], task, NULL);
}

void mk_fpu_sanitize(struct task_struct *task)
{
	u8 *state = task->thread.fpu.xsave;
	u64 *header = (u64 *)(state + OFFSET_HEADER);

	*(u32 *)(state + OFFSET_MXCSR) &= mxcsr_mask;
	header[0] &= mk_boot->xcr0;
	memset(header + 1, 0, 56);
}
