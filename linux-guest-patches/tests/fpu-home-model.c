// SPDX-License-Identifier: GPL-2.0
/*
 * Tries every sequence of steps of two threads, two vCPUs and one compute core,
 * and checks that whoever reads or runs an extended state has the newest. The
 * bookkeeping is the kernel's own text (asm/fpu-home.h); as known-bad variants
 * stand the four flags that it replaced, and wrong versions of single steps.
 *
 *   fpu-home-model LENGTH VARIANT    status 0: no sequence goes wrong,
 *                                    1: one does, and is printed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../files/arch/um/os-mk/include/asm/fpu-home.h"

#define CPUS	2
#define THREADS	2
#define MAX	16

/*
 * A state is a number: each run of user code makes a new one. Thread 0 has the
 * compute core, thread 1 is any other one.
 */
struct thread {
	int newest;		/* what a reader must find */
	int memory;
	struct fpu_where where;
	/* The four flags of the old bookkeeping. */
	int cpu;
	bool saved, changed;
};

struct machine {
	struct thread thread[THREADS];
	int vcpu[CPUS];		/* what the registers hold */
	int owner[CPUS];
	int current[CPUS];	/* thread, or -1 */
	int core, frame;
	bool entered;		/* thread 0 has the core */
	bool stale;		/* the fourth flag */
	int last;		/* the newest state of all */
};

/* Bookkeeping under test. Each brings about what it promises, in @m. */
struct variant {
	const char *name;
	void (*read)(struct machine *m, int t);
	void (*written)(struct machine *m, int t);
	void (*switch_out)(struct machine *m, int t);
	void (*run_on_vcpu)(struct machine *m, int t, int cpu);
	void (*run_on_core)(struct machine *m, bool refuse);
	void (*leave_core)(struct machine *m);
	bool never_refused;
};

static void obey(struct machine *m, int t, enum fpu_todo todo)
{
	struct thread *thread = &m->thread[t];

	if (todo == FPU_SAVE_VCPU)
		thread->memory = m->vcpu[thread->where.cpu];
	else if (todo == FPU_SAVE_CORE)
		thread->memory = m->core;
}

static void home_read(struct machine *m, int t)
{
	obey(m, t, fpu_read(&m->thread[t].where));
}

static void home_written(struct machine *m, int t)
{
	fpu_written(&m->thread[t].where);
}

static void home_switch_out(struct machine *m, int t)
{
	obey(m, t, fpu_switch_out(&m->thread[t].where));
}

static void home_run_on_vcpu(struct machine *m, int t, int cpu)
{
	struct thread *thread = &m->thread[t];

	if (fpu_run_on_vcpu(&thread->where, cpu, m->owner[cpu] == t) == FPU_LOAD)
		m->vcpu[cpu] = thread->memory;
	m->owner[cpu] = t;
}

static void home_run_on_core(struct machine *m, bool refuse)
{
	struct thread *thread = &m->thread[0];
	enum fpu_todo todo;

	if (!m->entered)
		home_read(m, 0);
	todo = fpu_run_on_core(&thread->where);
	if (refuse) {
		/* A core that refuses a state forgets what it had. */
		if (todo == FPU_LOAD)
			m->core = -1;
		fpu_refused(&thread->where, todo);
	} else if (todo == FPU_LOAD) {
		m->core = thread->memory;
	}
}

static void home_leave_core(struct machine *m)
{
	obey(m, 0, fpu_leave_core(&m->thread[0].where));
}

/* Wrong: a write leaves the core's registers in charge. */
static void bad_written(struct machine *m, int t)
{
	if (m->thread[t].where.home != FPU_CORE)
		fpu_written(&m->thread[t].where);
}

/* Wrong: whose the registers are is not asked. */
static void bad_run_on_vcpu(struct machine *m, int t, int cpu)
{
	struct thread *thread = &m->thread[t];

	if (fpu_run_on_vcpu(&thread->where, cpu, true) == FPU_LOAD)
		m->vcpu[cpu] = thread->memory;
	m->owner[cpu] = t;
}

/* Wrong: what the core has alone is not fetched. */
static void bad_leave_core(struct machine *m)
{
	fpu_leave_core(&m->thread[0].where);
}

/* Wrong: a refused state counts as loaded. */
static void bad_run_on_core(struct machine *m, bool refuse)
{
	home_run_on_core(m, refuse);
	if (refuse && m->thread[0].where.home == FPU_MEMORY)
		m->thread[0].where.home = FPU_CORE;
}

/* Wrong: on the way to the core nothing is saved. */
static void bad_go_over(struct machine *m, bool refuse)
{
	bool entered = m->entered;

	m->entered = true;
	home_run_on_core(m, refuse);
	m->entered = entered;
}

/* The old bookkeeping, with cpu, saved, changed and fpu_stale. */

static bool flags_in_registers(struct machine *m, int t, int cpu)
{
	return m->thread[t].cpu == cpu && m->owner[cpu] == t;
}

static void flags_switch_out(struct machine *m, int t)
{
	struct thread *thread = &m->thread[t];
	int cpu = thread->cpu;

	if (cpu >= 0 && flags_in_registers(m, t, cpu) && !thread->saved) {
		thread->memory = m->vcpu[cpu];
		thread->saved = true;
	}
}

static void flags_read(struct machine *m, int t)
{
	if (t != 0 || !m->entered) {
		flags_switch_out(m, t);
	} else if (m->stale) {
		m->thread[0].memory = m->core;
		m->stale = false;
	}
}

static void flags_written(struct machine *m, int t)
{
	m->thread[t].cpu = -1;
	m->thread[t].saved = true;
	m->thread[t].changed = true;
}

static void flags_run_on_vcpu(struct machine *m, int t, int cpu)
{
	struct thread *thread = &m->thread[t];

	if (!flags_in_registers(m, t, cpu)) {
		m->vcpu[cpu] = thread->memory;
		thread->cpu = cpu;
		m->owner[cpu] = t;
	}
	thread->saved = false;
}

static void flags_run_on_core(struct machine *m, bool refuse)
{
	struct thread *thread = &m->thread[0];
	bool load = false;

	if (!m->entered) {
		flags_read(m, 0);
		m->frame = thread->memory;
		thread->changed = false;
		load = true;
	}
	if (thread->changed) {
		m->frame = thread->memory;
		thread->changed = false;
		load = true;
	}
	if (load)
		m->core = refuse ? -1 : m->frame;
	m->stale = true;
}

static void flags_leave_core(struct machine *m)
{
	flags_read(m, 0);
	flags_written(m, 0);
}

#define HOME	.read = home_read, .written = home_written,			\
		.switch_out = home_switch_out, .run_on_vcpu = home_run_on_vcpu,	\
		.run_on_core = home_run_on_core, .leave_core = home_leave_core

#pragma GCC diagnostic ignored "-Woverride-init"
static const struct variant variants[] = {
	{ "kernel", HOME },
	{ "core-wins-over-a-write", HOME, .written = bad_written },
	{ "owner-is-not-asked", HOME, .run_on_vcpu = bad_run_on_vcpu },
	{ "left-without-saving", HOME, .leave_core = bad_leave_core },
	{ "refused-counts-as-loaded", HOME, .run_on_core = bad_run_on_core },
	{ "gone-over-without-saving", HOME, .run_on_core = bad_go_over },
	{ "four-flags", flags_read, flags_written, flags_switch_out,
	  flags_run_on_vcpu, flags_run_on_core, flags_leave_core, true },
	{ "four-flags-refused", flags_read, flags_written, flags_switch_out,
	  flags_run_on_vcpu, flags_run_on_core, flags_leave_core, false },
};

static const struct variant *v;
static const char *trace[MAX];
static unsigned long sequences;

static void wrong(int depth, const char *what)
{
	int i;

	printf("%s: %s after:", v->name, what);
	for (i = 0; i < depth; i++)
		printf(" %s;", trace[i]);
	printf("\n");
	exit(1);
}

/* User code ran and left another state in the registers. */
static void user(struct machine *m, int t, int *registers, int depth)
{
	if (*registers != m->thread[t].newest)
		wrong(depth, "a thread runs with an old state");
	*registers = m->thread[t].newest = ++m->last;
}

static void explore(const struct machine *before, int left, int depth);

#define STEP(condition, name, ...)					\
	do {								\
		if (condition) {					\
			struct machine copy = *before, *m = &copy;	\
									\
			trace[depth] = name;				\
			__VA_ARGS__					\
			explore(m, left - 1, depth + 1);		\
		}							\
	} while (0)

/* A sequence goes on with every step that the machine allows. */
static void explore(const struct machine *before, int left, int depth)
{
	bool on[THREADS] = { };
	int cpu, t;

	sequences++;
	if (!left)
		return;
	for (cpu = 0; cpu < CPUS; cpu++)
		if (before->current[cpu] >= 0)
			on[before->current[cpu]] = true;
	for (t = 0; t < THREADS; t++) {
		static const char *const switch_in[2][2] = {
			{ "A comes to vCPU 0", "A comes to vCPU 1" },
			{ "B comes to vCPU 0", "B comes to vCPU 1" },
		};
		static const char *const runs[2][2] = {
			{ "A runs on vCPU 0", "A runs on vCPU 1" },
			{ "B runs on vCPU 0", "B runs on vCPU 1" },
		};

		for (cpu = 0; cpu < CPUS; cpu++) {
			STEP(!on[t] && before->current[cpu] < 0, switch_in[t][cpu],
			     m->current[cpu] = t;);
			STEP(before->current[cpu] == t && (t || !before->entered),
			     runs[t][cpu],
			     v->run_on_vcpu(m, t, cpu);
			     user(m, t, &m->vcpu[cpu], depth + 1););
			STEP(before->current[cpu] == t,
			     t ? "B gives way" : "A gives way",
			     v->switch_out(m, t);
			     m->current[cpu] = -1;);
		}
	}
	/* Signal frames, tracers, fork and core dumps read. */
	STEP(true, "A is read",
	     v->read(m, 0);
	     if (m->thread[0].memory != m->thread[0].newest)
		     wrong(depth + 1, "a reader finds an old state"););
	STEP(true, "A is written",
	     m->thread[0].memory = m->thread[0].newest = ++m->last;
	     v->written(m, 0););
	/* A fork: what is A's becomes B's, which did not run before. */
	STEP(!on[1], "A forks B",
	     v->read(m, 0);
	     m->thread[1].memory = m->thread[0].memory;
	     m->thread[1].newest = m->thread[0].newest;
	     v->written(m, 1););
	STEP(on[0], "A runs on its core",
	     v->run_on_core(m, false);
	     m->entered = true;
	     user(m, 0, &m->core, depth + 1););
	STEP(on[0] && !v->never_refused, "A's core refuses",
	     v->run_on_core(m, true);
	     m->entered = true;);
	STEP(before->entered, "A is recoupled",
	     v->leave_core(m);
	     m->entered = false;
	     m->core = -1;);
}

int main(int argc, char **argv)
{
	struct machine m = { .vcpu = { -1, -1 }, .core = -1, .frame = -1,
			     .owner = { -1, -1 }, .current = { 0, -1 } };
	unsigned int i;
	int length;

	if (argc != 3 || atoi(argv[1]) > MAX)
		return 2;
	for (i = 0; i < sizeof(variants) / sizeof(*variants); i++)
		if (!strcmp(variants[i].name, argv[2]))
			v = &variants[i];
	if (!v)
		return 2;
	for (i = 0; i < THREADS; i++)
		m.thread[i] = (struct thread) { .newest = -2 - i, .memory = -2 - i,
						.cpu = -1, .saved = true, .changed = true };
	/* The shortest sequence that goes wrong is the one to look at. */
	for (length = 1; length <= atoi(argv[1]); length++)
		explore(&m, length, 0);
	printf("%s: nothing wrong in %lu sequences\n", v->name, sequences);
	return 0;
}
