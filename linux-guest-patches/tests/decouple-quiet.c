// SPDX-License-Identifier: GPL-2.0
/*
 * How little a decoupled thread is disturbed, and how little is told of it:
 * called back while it sleeps, timed by CPU timers, looked at by other users.
 * Prints TAP; exits with the number of failures (at most 100).
 *
 * cc -static -O2 -pthread -I../files/include/uapi -o decouple-quiet decouple-quiet.c
 */
#include "decouple-tests.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* Can a user read the counters of the core? 1: all, 0: none, 2: some. */
static int may_read_counters(int core, unsigned int user)
{
	static const char *const names[] = {
		"syscalls", "faults", "traps", "stops", "answer_ns",
		"syscalls_by_number"
	};
	int status, i, count = sizeof(names) / sizeof(*names);
	pid_t pid = fork();

	if (pid)
		return ends(pid, &status) ? WEXITSTATUS(status) : 2;
	if (setgid(user) || setuid(user))
		_exit(2);
	for (i = 0, status = 0; i < count; i++) {
		char path[128], byte;
		int fd;

		snprintf(path, sizeof(path), "/sys/kernel/decouple/core%d/%s",
			 core, names[i]);
		fd = open(path, O_RDONLY);
		status += fd >= 0 && read(fd, &byte, 1) >= 0;
		close(fd);
	}
	_exit(status == count ? 1 : status ? 2 : 0);
}

/* As /proc/PID/syscall: for who may trace the thread. */
static void test_counters(int fd, int core)
{
	volatile long *count = shared_page();
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (setgid(1000) || setuid(1000))
			_exit(2);
		/* A process that changed its user is not dumpable; exec ends that. */
		prctl(PR_SET_DUMPABLE, 1);
		for (;;)
			++*count;
	}
	grows(count);
	check(attach(fd, pid, 0, core) == core, "another user's thread goes over");
	check(may_read_counters(core, 1000) == 1, "its user reads its counters");
	check(may_read_counters(core, 0) == 1, "root does");
	check(may_read_counters(core, 1001) == 0, "others do not");
	kill(pid, SIGKILL);
	ends(pid, &status);
	becomes_idle(core);
	check(may_read_counters(core, 1000) == 1, "also when it has ended");
	check(may_read_counters(core, 1001) == 0, "and others do not then");
	munmap((void *)count, 4096);
}

/* Who sleeps, or is stopped, leaves its core at once and is not woken. */
static void test_leave_asleep(int fd, int core)
{
	volatile long *count = shared_page();
	int status, wake[2];
	char byte = 0;
	pid_t pid;

	pipe(wake);
	pid = fork();
	if (!pid) {
		while (!*count)
			;
		_exit(read(wake[0], &byte, 1) == 1 && byte == 'x' ? 0 : 1);
	}
	check(attach(fd, pid, 0, core) == core, "a thread goes over");
	*count = 1;
	while (strcmp(core_file(core, "state"), "trapped"))
		usleep(1000);
	usleep(50000);
	check(!detach(fd, pid, 0), "it is called back while it reads a pipe");
	check(!strcmp(core_file(core, "state"), "idle"), "its core is free at once");
	check(attach(fd, pid, 0, core) == core && !detach(fd, pid, 0) &&
	      !strcmp(core_file(core, "state"), "idle"), "and again");
	check(write(wake[1], "x", 1) == 1 && ends(pid, &status) && !status,
	      "the read goes on until there is something");

	pid = spinner(count);
	grows(count);
	attach(fd, pid, 0, core);
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	check(!detach(fd, pid, 0) && !strcmp(core_file(core, "state"), "idle"),
	      "a stopped one leaves its core at once");
	kill(pid, SIGCONT);
	check(grows(count), "and computes when it is continued");
	kill(pid, SIGKILL);
	ends(pid, &status);
	close(wake[0]);
	close(wake[1]);
	munmap((void *)count, 4096);
}

static volatile long *signals_seen;

static void on_prof(int sig)
{
	*signals_seen += 500;
}

static void *computes(void *arg)
{
	volatile long *count = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	count[1] = syscall(SYS_gettid);
	while (count[1])
		++*count;
	return NULL;
}

/*
 * shared[0] counts what a thread computes, shared[1] is its number, and
 * shared[2] grows by each SIGPROF that main handles.
 */
static void timed_process(volatile long *shared, const struct itimerval *every)
{
	pthread_t thread;

	signals_seen = &shared[2];
	signal(SIGPROF, on_prof);
	pthread_create(&thread, NULL, computes, (void *)shared);
	setitimer(ITIMER_PROF, every, NULL);
	for (;;)
		pause();
}

/* A timer that is far from due, and one that is due for another thread. */
static void test_cpu_timers(int fd, int core)
{
	volatile long *count = shared_page();
	struct itimerval every = { { 0, 20000 }, { 0, 20000 } };
	long long stops, later;
	int status;
	pid_t pid = fork();

	if (!pid) {
		setrlimit(RLIMIT_CPU, &(struct rlimit){ 1000, 1000 });
		for (;;)
			++*count;
	}
	grows(count);
	attach(fd, pid, 0, core);
	grows(count);
	stops = core_number(core, "stops");
	usleep(300000);
	later = core_number(core, "stops");
	check(grows(count) && stops == later,
	      "a limit of processor time that is not reached stops nobody");
	kill(pid, SIGKILL);
	ends(pid, &status);
	becomes_idle(core);

	/* One thread computes and blocks the signal, main handles it. */
	pid = fork();
	if (!pid)
		timed_process(count, &every);
	while (!count[1])
		usleep(1000);
	check(attach(fd, pid, count[1], core) == core, "a thread of many goes over");
	grows(count);
	stops = core_number(core, "stops");
	check(grows(count + 2), "its process's timer goes on");
	later = core_number(core, "stops");
	check(stops == later, "for another thread's signal it is not stopped");
	kill(pid, SIGKILL);
	ends(pid, &status);
	check(becomes_idle(core), "the core is free");
	munmap((void *)count, 4096);
}

int main(void)
{
	int fd = open_device(), core;

	core = attach(fd, 0, 0, -1);
	if (core < 0) {
		printf("Bail out! no compute core: %d\n", core);
		return 1;
	}
	detach(fd, 0, 0);
	test_counters(fd, core);
	test_leave_asleep(fd, core);
	test_cpu_timers(fd, core);
	printf("1..%d\n# %d failed\n", tests, failures);
	return failures > 100 ? 100 : failures;
}
