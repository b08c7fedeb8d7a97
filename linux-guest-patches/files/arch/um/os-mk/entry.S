/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ways between Linux and the microkernel: upcalls, the user context,
 * and the switch between kernel threads.
 */
#include <linux/linkage.h>
#include <generated/asm-offsets.h>

.macro SAVE_CALLEE
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
.endm

.macro RESTORE_CALLEE
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
.endm

	.text

/*
 * long mk_resume_user(void): run the user context in the vCPU's frame until
 * it traps or is interrupted. Returns 0 then, and the negative status of the
 * microkernel where it refused.
 */
SYM_FUNC_START(mk_resume_user)
	SAVE_CALLEE
	movq %rsp, %gs:MK_VCPU_ENTRY_SP
	movl $MK_NR_VCPU_RESUME, %eax
	movl $MK_OP_RESUME_USER, %edi
	syscall
	RESTORE_CALLEE
	RET
SYM_FUNC_END(mk_resume_user)

/* void mk_wait(void): sleep until `pending` is not zero. */
SYM_FUNC_START(mk_wait)
	pushq %rbx
	movl $MK_NR_VCPU_RESUME, %eax
	movl $MK_OP_RESUME_WAIT, %edi
	syscall
	popq %rbx
	RET
SYM_FUNC_END(mk_wait)

/*
 * Where every upcall enters. From the user context, the stack is the one that
 * mk_resume_user() left, and we return from it. From kernel mode, the stack is
 * the interrupted one: the frame goes onto it before the next exception.
 */
SYM_CODE_START(mk_entry)
	testl $MK_FLAG_VCPU_USER, %gs:MK_VCPU_SAVED_FLAGS
	jz 1f
	RESTORE_CALLEE
	cld
	xorl %eax, %eax
	RET

1:
	andq $-16, %rsp
	/* An odd number of words, and one more for C's alignment. */
	subq $(MK_PT_REGS_SIZE + 8), %rsp
	cld
	movq %gs:MK_VCPU_ENTRY_GS, %rsi
	addq $MK_VCPU_TRAPNO, %rsi
	movq %rsp, %rdi
	movl $MK_FRAME_WORDS, %ecx
	rep movsq
	movq $0, MK_PT_IS_USER(%rsp)
	movl %gs:MK_VCPU_SAVED_FLAGS, %esi
	/* The frame is safe: exceptions may nest again. */
	orl $MK_FLAG_VCPU_EXC, %gs:MK_VCPU_FLAGS
	movq %rsp, %rdi
	movq MK_PT_GP + 8 * 4(%rsp), %rbp
	/* pt_regs, saved flags; returns with interrupts as they were. */
	call mk_kernel_upcall
	/*
	 * Put flags and return address where the interrupted code may have
	 * nothing of its own, below its stack pointer, and return through
	 * them. No iretq: QEMU before 9.1 makes its reads of the stack with
	 * the kernel's rights, which SMAP forbids. What is overwritten of our
	 * frame is at most its end, is_user.
	 */
	movq MK_PT_GP + 8 * 19(%rsp), %rax
	movq MK_PT_GP + 8 * 16(%rsp), %rcx
	movq MK_PT_GP + 8 * 18(%rsp), %rdx
	subq $16, %rax
	movq %rcx, 8(%rax)
	movq %rdx, (%rax)
	movq %rax, MK_PT_GP + 8 * 19(%rsp)
	/* gp[] is in the order of pops; then orig_ax, ip, cs, flags, sp. */
	addq $MK_PT_GP, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rax
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	movq 8 * 4(%rsp), %rsp
	popfq
	RET
SYM_CODE_END(mk_entry)

/*
 * void mk_load_gs(struct mk_vcpu_state *vcpu): GS base becomes vcpu->entry_gs.
 * The microkernel sets it at an upcall, so cause one.
 */
SYM_FUNC_START(mk_load_gs)
	SAVE_CALLEE
	leaq 1f(%rip), %rax
	movq %rax, MK_VCPU_ENTRY_IP(%rdi)
	movl $MK_FLAG_VCPU_EXC, MK_VCPU_FLAGS(%rdi)
	ud2
1:
	/* All registers but the stack pointer are zero here. */
	RESTORE_CALLEE
	cld
	RET
SYM_FUNC_END(mk_load_gs)

/*
 * struct task_struct *mk_switch_stack(struct task_struct *from, *to):
 * the thread that goes on returns the one that ran before it.
 */
SYM_FUNC_START(mk_switch_stack)
	SAVE_CALLEE
	movq %rsp, MK_TASK_SP(%rdi)
	movq MK_TASK_SP(%rsi), %rsp
	movq %rsi, %gs:MK_VCPU_CURRENT
	movq %rdi, %rax
	RESTORE_CALLEE
	RET
SYM_FUNC_END(mk_switch_stack)

/* A vCPU that another one started: rdi = its page, idle thread's stack (__cpu_up()). */
SYM_CODE_START(mk_secondary_entry)
	xorl %ebp, %ebp
	cld
	call mk_load_gs
	call mk_secondary
	ud2
SYM_CODE_END(mk_secondary_entry)

/* First steps of a new thread: mk_switch_stack() "returns" to here. */
SYM_CODE_START(mk_thread_entry)
	xorl %ebp, %ebp
	movq %rax, %rdi
	call mk_new_thread
	ud2
SYM_CODE_END(mk_thread_entry)

	.section .note.GNU-stack, "", @progbits
