/* SPDX-License-Identifier: GPL-2.0 */
/* Included by arch/um/kernel/asm-offsets.c: what entry.S and asm/current.h need. */
#include <linux/kbuild.h>
#include <linux/stddef.h>
#include <linux/sched.h>
#include <asm/mk.h>

int main(void);

int main(void)
{
	/* The first words that are free for Linux. */
	DEFINE(MK_VCPU_CURRENT, offsetof(struct mk_vcpu_state, linux[0]));
	DEFINE(MK_VCPU_CPU, offsetof(struct mk_vcpu_state, linux[1]));
	DEFINE(MK_VCPU_PERCPU, offsetof(struct mk_vcpu_state, linux[2]));
	BLANK();
	DEFINE(MK_VCPU_TRAPNO, offsetof(struct mk_vcpu_state, frame.trapno));
	DEFINE(MK_VCPU_FLAGS, offsetof(struct mk_vcpu_state, flags));
	DEFINE(MK_VCPU_SAVED_FLAGS, offsetof(struct mk_vcpu_state, saved_flags));
	DEFINE(MK_VCPU_PENDING, offsetof(struct mk_vcpu_state, pending));
	DEFINE(MK_VCPU_ENTRY_IP, offsetof(struct mk_vcpu_state, entry_ip));
	DEFINE(MK_VCPU_ENTRY_SP, offsetof(struct mk_vcpu_state, entry_sp));
	DEFINE(MK_VCPU_ENTRY_GS, offsetof(struct mk_vcpu_state, entry_gs));
	DEFINE(MK_FRAME_WORDS, sizeof(struct mk_trap_frame) / 8);
	BLANK();
	DEFINE(MK_PT_REGS_SIZE, sizeof(struct pt_regs));
	DEFINE(MK_PT_GP, offsetof(struct pt_regs, regs.gp));
	DEFINE(MK_PT_IS_USER, offsetof(struct pt_regs, regs.is_user));
	BLANK();
	DEFINE(MK_NR_VCPU_RESUME, MK_SYS_VCPU_RESUME);
	DEFINE(MK_OP_RESUME_USER, MK_RESUME_USER);
	DEFINE(MK_OP_RESUME_WAIT, MK_RESUME_WAIT);
	DEFINE(MK_FLAG_VCPU_IRQ, MK_VCPU_IRQ);
	DEFINE(MK_FLAG_VCPU_EXC, MK_VCPU_EXC);
	DEFINE(MK_FLAG_VCPU_USER, MK_VCPU_USER);
	BLANK();
	DEFINE(MK_TASK_SP, offsetof(struct task_struct, thread.sp));
	return 0;
}
