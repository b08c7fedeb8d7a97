/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_PTRACE_H
#define __UM_PTRACE_H

/*
 * The registers of a user context, or of interrupted kernel code, exactly as
 * the microkernel's trap frame has them, and where they are from.
 */

/* Index into gp[]: the order of struct user_regs_struct. */
#define HOST_R15	0
#define HOST_R14	1
#define HOST_R13	2
#define HOST_R12	3
#define HOST_BP		4
#define HOST_BX		5
#define HOST_R11	6
#define HOST_R10	7
#define HOST_R9		8
#define HOST_R8		9
#define HOST_AX		10
#define HOST_CX		11
#define HOST_DX		12
#define HOST_SI		13
#define HOST_DI		14
#define HOST_ORIG_AX	15
#define HOST_IP		16
#define HOST_CS		17
#define HOST_EFLAGS	18
#define HOST_SP		19
#define HOST_SS		20
#define HOST_FS_BASE	21
#define HOST_GS_BASE	22
#define HOST_DS		23
#define HOST_ES		24
#define HOST_FS		25
#define HOST_GS		26
#define MAX_REG_NR	27

#ifndef __ASSEMBLY__

#include <linux/types.h>
#include <asm/ptrace-abi.h>

struct uml_pt_regs {
	unsigned long trapno;
	unsigned long gp[MAX_REG_NR];
	unsigned long error;
	unsigned long address;
	unsigned long is_user;
};

struct pt_regs {
	struct uml_pt_regs regs;
};

#define MAX_REG_OFFSET (MAX_REG_NR * sizeof(unsigned long))

#define PT_REGS_REG(r, reg)	((r)->regs.gp[HOST_##reg])
#define PT_REGS_IP(r)		PT_REGS_REG(r, IP)
#define PT_REGS_SP(r)		PT_REGS_REG(r, SP)
#define PT_REGS_BP(r)		PT_REGS_REG(r, BP)
#define PT_REGS_AX(r)		PT_REGS_REG(r, AX)
#define PT_REGS_EFLAGS(r)	PT_REGS_REG(r, EFLAGS)
/* As on x86: the number of the system call, -1 in none. */
#define PT_REGS_SYSCALL_NR(r)	PT_REGS_REG(r, ORIG_AX)

#define user_mode(r)		((r)->regs.is_user)
#define instruction_pointer(r)	PT_REGS_IP(r)
#define profile_pc(r)		PT_REGS_IP(r)
#define user_stack_pointer(r)	PT_REGS_SP(r)
#define frame_pointer(r)	PT_REGS_BP(r)
#define kernel_stack_pointer(r)	PT_REGS_SP(r)

#define arch_has_single_step()	(1)
#define ARCH_HAS_USER_SINGLE_STEP_REPORT

static inline void instruction_pointer_set(struct pt_regs *regs, unsigned long ip)
{
	PT_REGS_IP(regs) = ip;
}

static inline long regs_return_value(struct pt_regs *regs)
{
	return PT_REGS_AX(regs);
}

#define current_user_stack_pointer() user_stack_pointer(current_pt_regs())

#endif

#endif
