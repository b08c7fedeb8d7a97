/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the newest extended state of a thread is: the one answer, and every
 * step that changes it. No function here touches registers or memory; each
 * returns what its caller must do before anything else happens to the thread.
 *
 * Free of the kernel, so that tests/fpu-home-model.c compiles this very text and
 * tries all sequences of steps.
 */
#ifndef __UM_FPU_HOME_H
#define __UM_FPU_HOME_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdbool.h>
#endif

enum fpu_home {
	/* thread.fpu.xsave, and nowhere else. A new thread's is there. */
	FPU_MEMORY,
	/* The registers of a vCPU; memory is older. */
	FPU_VCPU,
	/* Memory, and the same in a vCPU's registers while it is the owner. */
	FPU_VCPU_SAVED,
	/* The registers of the thread's compute core; memory is older. */
	FPU_CORE,
	/* Memory, and the same in the compute core's registers. */
	FPU_CORE_SAVED,
};

struct fpu_where {
	enum fpu_home home;
	/* Of the FPU_VCPU states: which. */
	int cpu;
};

enum fpu_todo {
	FPU_NOTHING,
	/* Write the registers of this vCPU to memory. */
	FPU_SAVE_VCPU,
	/* Have the compute core write its registers to memory. */
	FPU_SAVE_CORE,
	/* Load the registers from memory. */
	FPU_LOAD,
};

/* Memory is to be read: a signal frame, a tracer, fork, a core dump. */
static inline enum fpu_todo fpu_read(struct fpu_where *w)
{
	switch (w->home) {
	case FPU_VCPU:
		w->home = FPU_VCPU_SAVED;
		return FPU_SAVE_VCPU;
	case FPU_CORE:
		w->home = FPU_CORE_SAVED;
		return FPU_SAVE_CORE;
	default:
		return FPU_NOTHING;
	}
}

/* Memory got another state: sigreturn, a handler's start, a tracer, exec, fork. */
static inline void fpu_written(struct fpu_where *w)
{
	w->home = FPU_MEMORY;
}

/*
 * The thread gives way to another one on its vCPU. Its registers on a compute
 * core stay where they are.
 */
static inline enum fpu_todo fpu_switch_out(struct fpu_where *w)
{
	return w->home == FPU_VCPU ? fpu_read(w) : FPU_NOTHING;
}

/*
 * The thread is about to run on vCPU @cpu. @owner: the registers there were
 * last loaded for this thread.
 */
static inline enum fpu_todo fpu_run_on_vcpu(struct fpu_where *w, int cpu, bool owner)
{
	bool there = owner && w->cpu == cpu &&
		     (w->home == FPU_VCPU || w->home == FPU_VCPU_SAVED);

	w->home = FPU_VCPU;
	w->cpu = cpu;
	return there ? FPU_NOTHING : FPU_LOAD;
}

/*
 * The thread is about to run on its compute core. On the way there it was read,
 * so that nothing is in a vCPU alone.
 */
static inline enum fpu_todo fpu_run_on_core(struct fpu_where *w)
{
	bool there = w->home == FPU_CORE || w->home == FPU_CORE_SAVED;

	w->home = FPU_CORE;
	return there ? FPU_NOTHING : FPU_LOAD;
}

/*
 * The core refused to run the thread, which had been given @todo: nothing came
 * of the load, and memory is the newest still.
 */
static inline void fpu_refused(struct fpu_where *w, enum fpu_todo todo)
{
	if (todo == FPU_LOAD)
		w->home = FPU_MEMORY;
}

/* The compute core is about to lose the thread. */
static inline enum fpu_todo fpu_leave_core(struct fpu_where *w)
{
	enum fpu_todo todo = w->home == FPU_CORE ? FPU_SAVE_CORE : FPU_NOTHING;

	if (w->home == FPU_CORE || w->home == FPU_CORE_SAVED)
		w->home = FPU_MEMORY;
	return todo;
}

#endif
