/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_MMU_H
#define __UM_MMU_H

#include <linux/spinlock_types.h>
#include <linux/types.h>

typedef struct mm_context {
	/*
	 * Slot of the Task that is this address space; 0 while there is none.
	 * It is a cache (tables.c): made before a thread runs in it, dropped
	 * while none does. Negative while it is being found out whether
	 * somebody runs in it.
	 */
	int task;
	/* Held to drop the Task, and to use it where nobody runs in it. */
	spinlock_t lock;
	/* Among all that have a Task. */
	struct list_head spaces;
	/* Page tables of the Task, and where they were counted last. */
	unsigned long tables;
	unsigned long counted;
	/* The pages around the last fault, if all that was there is mapped. */
	unsigned long around;
	/* When somebody last ran or faulted here, in jiffies. */
	unsigned long used;
	/* Threads whose user context is on a compute core. */
	atomic_t decoupled;
	/* Address of the vDSO's code. */
	unsigned long vdso;
} mm_context_t;

#endif
