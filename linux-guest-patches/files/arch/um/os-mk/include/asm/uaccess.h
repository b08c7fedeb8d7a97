/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_UACCESS_H
#define __UM_UACCESS_H

#include <linux/mm_types.h>
#include <linux/string.h>
#include <asm/processor.h>

/*
 * User memory is reached by a walk of the user's page table and Linux's own
 * mapping of the page, held in place by the page table's lock (uaccess.c).
 */
unsigned long raw_copy_from_user(void *to, const void __user *from, unsigned long n);
unsigned long raw_copy_to_user(void __user *to, const void *from, unsigned long n);
unsigned long __clear_user(void __user *mem, unsigned long len);
#define __clear_user __clear_user

#define INLINE_COPY_FROM_USER
#define INLINE_COPY_TO_USER

#include <asm-generic/uaccess.h>

/* In case the address is bad, the exception table leads to err_label. */
#define __mk_nofault(dst, src, type, err_label, reg)			\
	asm goto("1: mov (%[from]), %%" reg "\n\t"			\
		 "2: mov %%" reg ", (%[to])\n\t"				\
		 ".pushsection __ex_table, \"a\"\n\t"			\
		 ".quad 1b, %l[" #err_label "], 2b, %l[" #err_label "]\n\t"	\
		 ".popsection"						\
		 : : [from] "r" (src), [to] "r" (dst)			\
		 : "rax", "memory" : err_label)

#define __get_kernel_nofault(dst, src, type, err_label)			\
do {									\
	if (sizeof(type) == 8)						\
		__mk_nofault(dst, src, type, err_label, "rax");		\
	else if (sizeof(type) == 4)					\
		__mk_nofault(dst, src, type, err_label, "eax");		\
	else if (sizeof(type) == 2)					\
		__mk_nofault(dst, src, type, err_label, "ax");		\
	else								\
		__mk_nofault(dst, src, type, err_label, "al");		\
} while (0)

#define __put_kernel_nofault __get_kernel_nofault

#endif
