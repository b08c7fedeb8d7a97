/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_STACKTRACE_H
#define __UM_STACKTRACE_H

struct task_struct;
struct pt_regs;

/*
 * Call @fn for each return address on a kernel stack, innermost first, until
 * it returns false: frame pointers lead from one to the next.
 */
void mk_walk_stack(struct task_struct *task, const struct pt_regs *regs,
		   bool (*fn)(void *data, unsigned long address), void *data);

#endif
