// SPDX-License-Identifier: GPL-2.0
/*
 * The extended state (x87, SSE, AVX, ...) belongs to user threads: the kernel
 * is compiled without it. It stays in the vCPU's registers while its owner, or
 * only the kernel, runs; XSAVE and XRSTOR need no privilege.
 */

#include <linux/cpumask.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
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

static void save_registers(struct mk_fpu *fpu)
{
	if (mk_boot->xsave_bytes)
		asm volatile("xsave64 (%0)"
			     : : "r" (fpu->xsave), "a" (-1), "d" (-1) : "memory");
	else
		asm volatile("fxsave64 (%0)" : : "r" (fpu->xsave) : "memory");
}

static void load_registers(struct mk_fpu *fpu)
{
	if (mk_boot->xsave_bytes)
		asm volatile("xrstor64 (%0)"
			     : : "r" (fpu->xsave), "a" (-1), "d" (-1) : "memory");
	else
		asm volatile("fxrstor64 (%0)" : : "r" (fpu->xsave) : "memory");
}

/* On its vCPU @task gives way to another thread. */
void mk_fpu_switch_out(struct task_struct *task)
{
	struct mk_fpu *fpu = &task->thread.fpu;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	if (fpu_switch_out(&fpu->where) == FPU_SAVE_VCPU)
		save_registers(fpu);
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
}

/*
 * A state in a vCPU's registers alone is that of current: others saved theirs
 * when they gave way.
 */
void mk_fpu_save(struct task_struct *task)
{
	struct mk_fpu *fpu = &task->thread.fpu;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	switch (fpu_read(&fpu->where)) {
	case FPU_SAVE_VCPU:
		save_registers(fpu);
		break;
	case FPU_SAVE_CORE:
		decouple_fetch_xstate(task);
		break;
	default:
		break;
	}
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
}
EXPORT_SYMBOL_GPL(mk_fpu_save);

void mk_fpu_written(struct task_struct *task)
{
	struct mk_fpu *fpu = &task->thread.fpu;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	fpu_written(&fpu->where);
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
}

/* Before current's user context runs, with interrupts off. */
void mk_fpu_load(void)
{
	struct mk_fpu *fpu = &current->thread.fpu;
	int cpu = mk_cpu();

	raw_spin_lock(&fpu->lock);
	if (fpu_run_on_vcpu(&fpu->where, cpu, owner[cpu] == current) == FPU_LOAD) {
		load_registers(fpu);
		owner[cpu] = current;
	}
	raw_spin_unlock(&fpu->lock);
}

static void make_initial(u8 *state)
{
	/* An empty header: XRSTOR takes the initial state. */
	memset(state, 0, MK_XSAVE_MAX);
	*(u16 *)state = FCW_DEFAULT;
	*(u32 *)(state + OFFSET_MXCSR) = MXCSR_DEFAULT;
	*(u32 *)(state + OFFSET_MXCSR_MASK) = mxcsr_mask;
}

void mk_fpu_reset(struct task_struct *task)
{
	struct mk_fpu *fpu = &task->thread.fpu;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	make_initial(fpu->xsave);
	fpu_written(&fpu->where);
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
}

/* @to is new: nobody else knows it. */
void mk_fpu_copy(struct task_struct *from, struct task_struct *to)
{
	mk_fpu_save(from);
	memcpy(to->thread.fpu.xsave, from->thread.fpu.xsave, MK_XSAVE_MAX);
	fpu_written(&to->thread.fpu.where);
}

void mk_fpu_replace(struct task_struct *task, const u8 *state)
{
	struct mk_fpu *fpu = &task->thread.fpu;
	unsigned long flags;

	raw_spin_lock_irqsave(&fpu->lock, flags);
	memcpy(fpu->xsave, state, MK_XSAVE_MAX);
	fpu_written(&fpu->where);
	raw_spin_unlock_irqrestore(&fpu->lock, flags);
}

void mk_fpu_forget(struct task_struct *task)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		cmpxchg(&owner[cpu], task, NULL);
}

bool mk_fpu_mxcsr_valid(u32 mxcsr)
{
	return !(mxcsr & ~mxcsr_mask);
}

bool mk_fpu_accepted(u8 *state)
{
	u64 *header = (u64 *)(state + OFFSET_HEADER);
	u32 *mxcsr = (u32 *)(state + OFFSET_MXCSR);

	if (!mk_fpu_mxcsr_valid(*mxcsr))
		return false;
	/* Standard form: no component that is off, and 16 bytes of zeros. */
	return !(header[0] & ~mk_boot->xcr0) && !header[1] && !header[2];
}
