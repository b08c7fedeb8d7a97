/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_MMU_H
#define __UM_MMU_H

#include <linux/types.h>

typedef struct mm_context {
	/* Slot of the Task that is this address space; 0 for init_mm. */
	int task;
	/* Something was mapped into the Task since it was made. */
	bool mapped;
	/* Threads whose user context is on a compute core. */
	atomic_t decoupled;
	/* Address of the vDSO's code. */
	unsigned long vdso;
} mm_context_t;

#endif
