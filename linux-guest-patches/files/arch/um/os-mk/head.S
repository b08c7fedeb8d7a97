/* SPDX-License-Identifier: GPL-2.0 */
/* Start: rdi = struct mk_linux_boot *, on vCPU 0, without a stack. */
#include <linux/linkage.h>
#include <linux/init.h>
#include <asm/thread_info.h>

	__HEAD
SYM_CODE_START(_start)
	leaq init_stack + THREAD_SIZE - 16(%rip), %rsp
	xorl %ebp, %ebp
	cld
	call mk_start
	ud2
SYM_CODE_END(_start)

	.section .note.GNU-stack, "", @progbits
