/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Large pieces of memory by the processor's string instructions: pages, user
 * buffers, extended state. They are fast on every processor of 64 bits, and
 * the functions of arch/x86/lib, which are good at small pieces, take to them
 * only by alternatives, which UML does not apply.
 */
#include <linux/linkage.h>

/* From here on the start of a string instruction is worth it, in bytes. */
#define LARGE	128

	.text

/* void *memcpy(void *to, const void *from, size_t n) */
SYM_FUNC_START(memcpy)
	cmpq $LARGE, %rdx
	jb __memcpy
	movq %rdi, %rax
	movq %rdx, %rcx
	shrq $3, %rcx
	rep movsq
	movl %edx, %ecx
	andl $7, %ecx
	rep movsb
	RET
SYM_FUNC_END(memcpy)

/* void *memset(void *to, int byte, size_t n) */
SYM_FUNC_START(memset)
	cmpq $LARGE, %rdx
	jb __memset
	movq %rdi, %r8
	movzbl %sil, %esi
	movabsq $0x0101010101010101, %rax
	imulq %rsi, %rax
	movq %rdx, %rcx
	shrq $3, %rcx
	rep stosq
	movl %edx, %ecx
	andl $7, %ecx
	rep stosb
	movq %r8, %rax
	RET
SYM_FUNC_END(memset)

	.section .note.GNU-stack, "", @progbits
