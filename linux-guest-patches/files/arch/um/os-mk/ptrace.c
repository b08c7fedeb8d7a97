// SPDX-License-Identifier: GPL-2.0
/* Tracing: registers of a stopped thread, as x86-64 Linux shows them. */

#include <linux/elf.h>
#include <linux/ptrace.h>
#include <linux/regset.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/mk.h>
#include <asm/prctl.h>
#include <asm/ptrace-abi.h>
#include <asm/trapnr.h>
#include <asm/user.h>
#include "os-mk.h"

/* Flags that a tracer may set. */
#define FLAG_MASK	0x54dd5UL

/* In the legacy area, and the header behind it. */
#define OFFSET_MXCSR	24
#define OFFSET_SW	464
#define OFFSET_HEADER	512
#define MXCSR_DEFAULT	0x1f80
#define XFEATURES_LEGACY	3
/* x87, SSE, AVX */
#define XFEATURES_MXCSR	7

void user_enable_single_step(struct task_struct *child)
{
	set_tsk_thread_flag(child, TIF_SINGLESTEP);
}

void user_disable_single_step(struct task_struct *child)
{
	clear_tsk_thread_flag(child, TIF_SINGLESTEP);
}

/* A step ended behind a system call, which raises no trap of its own. */
void user_single_step_report(struct pt_regs *regs)
{
	current->thread.trapno = X86_TRAP_DB;
	current->thread.error = 0;
	force_sig_fault(SIGTRAP, TRAP_BRKPT, (void __user *)PT_REGS_IP(regs));
}

void ptrace_disable(struct task_struct *child)
{
	user_disable_single_step(child);
}

static int put_reg(struct task_struct *child, unsigned int reg, unsigned long value)
{
	unsigned long *gp = task_pt_regs(child)->regs.gp;

	switch (reg) {
	case HOST_CS:
	case HOST_SS:
		/* Only the flat segments exist. */
		return value == gp[reg] ? 0 : -EIO;
	case HOST_DS:
	case HOST_ES:
	case HOST_FS:
	case HOST_GS:
		return value == 0 || value == gp[reg] ? 0 : -EIO;
	case HOST_FS_BASE:
	case HOST_GS_BASE:
		if (value >= TASK_SIZE_MAX)
			return -EIO;
		break;
	case HOST_EFLAGS:
		value = (gp[reg] & ~FLAG_MASK) | (value & FLAG_MASK);
		break;
	}
	gp[reg] = value;
	return 0;
}

static int regs_get(struct task_struct *target, const struct user_regset *regset,
		    struct membuf to)
{
	return membuf_write(&to, task_pt_regs(target)->regs.gp, MAX_REG_OFFSET);
}

static int regs_set(struct task_struct *target, const struct user_regset *regset,
		    unsigned int pos, unsigned int count,
		    const void *kbuf, const void __user *ubuf)
{
	unsigned long values[MAX_REG_NR];
	unsigned int i;
	int err;

	memcpy(values, task_pt_regs(target)->regs.gp, sizeof(values));
	err = user_regset_copyin(&pos, &count, &kbuf, &ubuf, values, 0, sizeof(values));
	for (i = 0; i < MAX_REG_NR && !err; i++)
		err = put_reg(target, i, values[i]);
	return err;
}

static int fpregs_get(struct task_struct *target, const struct user_regset *regset,
		      struct membuf to)
{
	mk_fpu_save(target);
	return membuf_write(&to, target->thread.fpu.xsave, sizeof(struct user_i387_struct));
}

static int xstate_get(struct task_struct *target, const struct user_regset *regset,
		      struct membuf to)
{
	u8 *xsave = target->thread.fpu.xsave;

	mk_fpu_save(target);
	/* Debuggers read here which features the area has. */
	*(u64 *)(xsave + OFFSET_SW) = mk_boot->xcr0;
	return membuf_write(&to, xsave, mk_boot->xsave_bytes);
}

/* The whole legacy state, whose reserved bits in MXCSR are zero. */
static int fpregs_set(struct task_struct *target, const struct user_regset *regset,
		      unsigned int pos, unsigned int count,
		      const void *kbuf, const void __user *ubuf)
{
	u8 *state;
	int err;

	if (pos || count != sizeof(struct user_i387_struct))
		return -EINVAL;
	mk_fpu_save(target);
	state = kmemdup(target->thread.fpu.xsave, MK_XSAVE_MAX, GFP_KERNEL);
	if (!state)
		return -ENOMEM;
	err = user_regset_copyin(&pos, &count, &kbuf, &ubuf, state, 0, -1);
	if (!err && !mk_fpu_mxcsr_valid(*(u32 *)(state + OFFSET_MXCSR)))
		err = -EINVAL;
	if (!err) {
		*(u64 *)(state + OFFSET_HEADER) |= XFEATURES_LEGACY;
		mk_fpu_replace(target, state);
	}
	kfree(state);
	return err;
}

/* A whole area in the standard form. */
static int xstate_set(struct task_struct *target, const struct user_regset *regset,
		      unsigned int pos, unsigned int count,
		      const void *kbuf, const void __user *ubuf)
{
	u64 *header;
	u8 *state;
	int err;

	if (pos || count != mk_boot->xsave_bytes)
		return -EFAULT;
	state = kzalloc(MK_XSAVE_MAX, GFP_KERNEL);
	if (!state)
		return -ENOMEM;
	header = (u64 *)(state + OFFSET_HEADER);
	err = user_regset_copyin(&pos, &count, &kbuf, &ubuf, state, 0, -1);
	/* MXCSR belongs to what uses it; XRSTOR loads it whatever is used. */
	if (!err && !(header[0] & XFEATURES_MXCSR))
		*(u32 *)(state + OFFSET_MXCSR) = MXCSR_DEFAULT;
	if (!err && (!mk_fpu_accepted(state) || memchr_inv(header + 1, 0, 56)))
		err = -EINVAL;
	if (!err)
		mk_fpu_replace(target, state);
	kfree(state);
	return err;
}

static struct user_regset regsets[] = {
	{
		.core_note_type	= NT_PRSTATUS,
		.n		= MAX_REG_NR,
		.size		= sizeof(long),
		.align		= sizeof(long),
		.regset_get	= regs_get,
		.set		= regs_set,
	}, {
		.core_note_type	= NT_PRFPREG,
		.n		= sizeof(struct user_i387_struct) / sizeof(long),
		.size		= sizeof(long),
		.align		= sizeof(long),
		.regset_get	= fpregs_get,
		.set		= fpregs_set,
	}, {
		.core_note_type	= NT_X86_XSTATE,
		/* n is known at boot only */
		.size		= sizeof(long),
		.align		= sizeof(long),
		.regset_get	= xstate_get,
		.set		= xstate_set,
	},
};

static struct user_regset_view view __ro_after_init = {
	.name		= "x86_64",
	.e_machine	= EM_X86_64,
	.regsets	= regsets,
	.n		= 2,
};

static int __init regsets_init(void)
{
	regsets[2].n = mk_boot->xsave_bytes / sizeof(long);
	if (regsets[2].n)
		view.n = 3;
	return 0;
}
early_initcall(regsets_init);

const struct user_regset_view *task_user_regset_view(struct task_struct *task)
{
	return &view;
}

static long peek_user(struct task_struct *child, unsigned long addr, unsigned long __user *data)
{
	unsigned long value = 0;

	if (addr & 7 || addr >= sizeof(struct user))
		return -EIO;
	if (addr < MAX_REG_OFFSET)
		value = task_pt_regs(child)->regs.gp[addr / 8];
	return put_user(value, data);
}

static long poke_user(struct task_struct *child, unsigned long addr, unsigned long data)
{
	if (addr & 7 || addr >= sizeof(struct user))
		return -EIO;
	if (addr < MAX_REG_OFFSET)
		return put_reg(child, addr / 8, data);
	/* There are no debug registers; clearing them works. */
	return data ? -EIO : 0;
}

static long ptrace_prctl(struct task_struct *child, unsigned long option, unsigned long addr)
{
	unsigned long __user *user = (unsigned long __user *)addr;

	switch (option) {
	case ARCH_SET_FS:
		return put_reg(child, HOST_FS_BASE, addr);
	case ARCH_SET_GS:
		return put_reg(child, HOST_GS_BASE, addr);
	case ARCH_GET_FS:
		return put_user(PT_REGS_REG(task_pt_regs(child), FS_BASE), user);
	case ARCH_GET_GS:
		return put_user(PT_REGS_REG(task_pt_regs(child), GS_BASE), user);
	default:
		return -EINVAL;
	}
}

long arch_ptrace(struct task_struct *child, long request,
		 unsigned long addr, unsigned long data)
{
	void __user *user = (void __user *)data;

	switch (request) {
	case PTRACE_PEEKUSR:
		return peek_user(child, addr, user);
	case PTRACE_POKEUSR:
		return poke_user(child, addr, data);
	case PTRACE_GETREGS:
		return copy_regset_to_user(child, &view, 0, 0, MAX_REG_OFFSET, user);
	case PTRACE_SETREGS:
		return copy_regset_from_user(child, &view, 0, 0, MAX_REG_OFFSET, user);
	case PTRACE_GETFPREGS:
		return copy_regset_to_user(child, &view, 1, 0,
					   sizeof(struct user_i387_struct), user);
	case PTRACE_SETFPREGS:
		return copy_regset_from_user(child, &view, 1, 0,
					     sizeof(struct user_i387_struct), user);
	case PTRACE_ARCH_PRCTL:
		return ptrace_prctl(child, data, addr);
	default:
		return ptrace_request(child, request, addr, data);
	}
}
