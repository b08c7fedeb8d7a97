// SPDX-License-Identifier: GPL-2.0
/*
 * Timers of processor time, in a thread that makes no system call: SIGPROF,
 * ITIMER_VIRTUAL, timer_create() on the clocks of thread and process, and
 * RLIMIT_CPU. Each must come in a loop that would go on for ever without it.
 */
#include "modes.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

static volatile sig_atomic_t came[65];

static void count(int sig)
{
	came[sig]++;
}

/* Computes until the signal came so often, or 20 s of processor time are used. */
static void compute_until(int sig, int times)
{
	volatile unsigned long sink = 0;

	/* A bound that needs no system call either: passes of a loop. */
	for (unsigned long pass = 0; came[sig] < times && pass < 200000; pass++)
		for (int i = 0; i < 20000; i++)
			sink += i;
}

static void interval_timers(void)
{
	static const struct {
		int which, sig;
		const char *name;
	} kinds[] = {
		{ ITIMER_PROF, SIGPROF, "ITIMER_PROF" },
		{ ITIMER_VIRTUAL, SIGVTALRM, "ITIMER_VIRTUAL" },
	};
	struct itimerval every = { { 0, 20000 }, { 0, 20000 } }, left, off = { 0 };

	for (int i = 0; i < 2; i++) {
		double before = seconds_of(CLOCK_PROCESS_CPUTIME_ID), used;

		came[kinds[i].sig] = 0;
		setitimer(kinds[i].which, &every, NULL);
		compute_until(kinds[i].sig, 5);
		used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - before;
		getitimer(kinds[i].which, &left);
		setitimer(kinds[i].which, &off, NULL);
		EXPECT(came[kinds[i].sig] >= 5, "%s: %d signals", kinds[i].name,
		       came[kinds[i].sig]);
		/*
		 * These two timers run on the time that ticks
		 * charge, on any Linux: who is moved is charged a whole tick
		 * where it ran for a part of one.
		 */
		EXPECT(used > 0.05, "%s: 5 signals of 20 ms in %.3f s",
		       kinds[i].name, used);
		EXPECT(left.it_value.tv_sec == 0 && left.it_value.tv_usec <= 30000,
		       "%s: %ld us left", kinds[i].name, left.it_value.tv_usec);
	}
}

static void clock_timer(clockid_t clock, const char *name)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec every = { { 0, 30000000 }, { 0, 30000000 } };
	double before = seconds_of(clock), used;
	timer_t timer;

	came[SIGUSR1] = 0;
	if (timer_create(clock, &event, &timer)) {
		EXPECT(0, "%s: timer_create: %s", name, strerror(errno));
		return;
	}
	timer_settime(timer, 0, &every, NULL);
	compute_until(SIGUSR1, 3);
	used = seconds_of(clock) - before;
	timer_delete(timer);
	EXPECT(came[SIGUSR1] >= 3, "%s: %d signals", name, came[SIGUSR1]);
	EXPECT(used > 0.085, "%s: 3 signals of 30 ms in %.3f s", name, used);
}

static atomic_int sibling_computes;

static void *sibling(void *arg)
{
	volatile unsigned long *sink = arg;

	/* Signals are main's: this thread must not be the one to handle them. */
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (sibling_computes)
		(*sink)++;
	return NULL;
}

/* The process's timer runs on the time of another thread, whose loop never traps. */
static void other_thread(void)
{
	struct itimerval once = { .it_value = { 0, 100000 } };
	clockid_t clock;
	double first, second;
	volatile unsigned long sink = 0;
	pthread_t thread;

	sibling_computes = 1;
	came[SIGPROF] = 0;
	pthread_create(&thread, NULL, sibling, (void *)&sink);
	pthread_getcpuclockid(thread, &clock);
	setitimer(ITIMER_PROF, &once, NULL);
	for (int i = 0; i < 2000 && !came[SIGPROF]; i++)
		usleep(10000);
	EXPECT(came[SIGPROF] == 1, "%d SIGPROF for another thread's time",
	       came[SIGPROF]);

	first = seconds_of(clock);
	do
		second = seconds_of(clock);
	while (second <= first && sink);
	EXPECT(second > first, "its clock went from %f to %f", first, second);
	sibling_computes = 0;
	pthread_join(thread, NULL);
}

static void limit(void)
{
	struct rlimit one = { 1, 3 };
	int status;
	pid_t pid = fork();

	if (!pid) {
		signal(SIGXCPU, count);
		setrlimit(RLIMIT_CPU, &one);
		compute_until(SIGXCPU, 1);
		_exit(came[SIGXCPU] == 1 ? 7 : 8);
	}
	waitpid(pid, &status, 0);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7,
	       "soft limit: status %#x", status);

	pid = fork();
	if (!pid) {
		one = (struct rlimit){ 1, 1 };
		signal(SIGXCPU, SIG_IGN);
		setrlimit(RLIMIT_CPU, &one);
		compute_until(SIGXCPU, 1);
		_exit(9);
	}
	waitpid(pid, &status, 0);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
	       "hard limit: status %#x", status);
}

int main(void)
{
	signal(SIGPROF, count);
	signal(SIGVTALRM, count);
	signal(SIGUSR1, count);
	interval_timers();
	clock_timer(CLOCK_THREAD_CPUTIME_ID, "CLOCK_THREAD_CPUTIME_ID");
	clock_timer(CLOCK_PROCESS_CPUTIME_ID, "CLOCK_PROCESS_CPUTIME_ID");
	other_thread();
	limit();
	return wrong;
}
