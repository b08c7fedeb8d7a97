// SPDX-License-Identifier: GPL-2.0
/*
 * What /dev/decouple promises, tried from user space. Prints TAP; exits with
 * the number of failures (at most 100). Started as PID 1 it mounts what it
 * needs and powers the machine off at the end.
 *
 * cc -static -O2 -pthread -I../files/include/uapi -o decouple-test decouple-test.c
 */
#include "decouple-tests.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/user.h>
#include <time.h>

static double pi_sum(int terms)
{
	double sum = 0;
	int i;

	for (i = 0; i < terms; i++)
		sum += (i % 2 ? -4.0 : 4.0) / (2 * i + 1);
	return sum;
}

static void test_self(int fd, int core)
{
	volatile double before, during, after;
	long long calls;
	char *mem;
	int got;
	long i;

	before = pi_sum(1000);
	got = attach(fd, 0, 0, core);
	check(got == core, "a thread attaches itself");
	check(attach(fd, 0, 0, core) == -EALREADY, "twice is EALREADY");
	check(core_number(core, "pid") == getpid(), "sysfs names the process");
	check(core_number(core, "tid") == gettid(), "sysfs names the thread");
	during = pi_sum(1000);
	check(before == during, "floating point goes over");

	calls = core_number(core, "syscalls");
	for (i = 0; i < 1000; i++)
		syscall(SYS_getppid);
	check(core_number(core, "syscalls") >= calls + 1000,
	      "its system calls are counted");

	mem = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < 4 << 20; i += 4096)
		mem[i] = i >> 12;
	for (i = 0; i < 4 << 20; i += 4096)
		if (mem[i] != (char)(i >> 12))
			break;
	check(i == 4 << 20, "its page faults are answered");
	check(core_number(core, "faults") > 0, "and counted");
	check(!munmap(mem, 4 << 20), "it unmaps");

	check(!detach(fd, 0, 0), "it detaches itself");
	after = pi_sum(1000);
	check(before == after, "floating point comes back");
	check(becomes_idle(core), "the core is free again");
	check(detach(fd, 0, 0) == -ENOENT, "detach of the undecoupled is ENOENT");
}

static long long ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void test_clock(int fd, int core)
{
	long long last = 0, now, calls;
	unsigned int cpu, node;
	struct timeval tv;
	bool good = true;
	int i;

	attach(fd, 0, 0, core);
	ns(CLOCK_MONOTONIC);
	calls = core_number(core, "syscalls");
	for (i = 0; i < 10000; i++) {
		now = ns(CLOCK_MONOTONIC);
		good &= now >= last;
		last = now;
		gettimeofday(&tv, NULL);
		time(NULL);
		getcpu(&cpu, &node);
	}
	calls = core_number(core, "syscalls") - calls;
	check(good, "time never goes backwards");
	check(calls < 20, "and is read without a system call");
	/* Nothing but this thread runs now: who keeps the coarse clocks? */
	last = ns(CLOCK_MONOTONIC);
	while (ns(CLOCK_MONOTONIC) < last + 2500000000LL)
		;
	now = ns(CLOCK_REALTIME);
	check(llabs(ns(CLOCK_REALTIME_COARSE) - now) < 500000000 &&
	      llabs(time(NULL) - now / 1000000000) <= 1,
	      "the coarse clocks stay fresh");
	detach(fd, 0, 0);
}

static atomic_int handled;

static void handler(int sig)
{
	atomic_fetch_add(&handled, 1);
}

static void test_signals(int fd, int core)
{
	volatile long *count = shared_page();
	int status, i;
	pid_t pid;

	signal(SIGUSR1, handler);
	pid = fork();
	if (!pid) {
		volatile double x = pi_sum(10);

		if (attach(fd, 0, 0, core) != core)
			_exit(1);
		while (atomic_load(&handled) < 100)
			++*count;
		_exit(x == pi_sum(10) ? 42 : 2);
	}
	check(grows(count), "a decoupled child runs");
	for (i = 0; i < 2000 && !waitpid(pid, &status, WNOHANG); i++) {
		kill(pid, SIGUSR1);
		usleep(1000);
	}
	check(i < 2000 && WIFEXITED(status) && WEXITSTATUS(status) == 42,
	      "handlers run while it is decoupled, and it exits");
	check(becomes_idle(core), "exit gives the core back");

	pid = spinner(count);
	check(attach(fd, pid, 0, core) == core, "another process is attached");
	check(grows(count), "and runs");
	check(!strcmp(core_file(core, "state"), "running"), "sysfs says running");
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	check(WIFSTOPPED(status), "SIGSTOP stops it");
	usleep(20000);
	i = *count;
	usleep(50000);
	check(i == (int)*count, "it stands still");
	kill(pid, SIGCONT);
	check(grows(count), "SIGCONT continues it");
	kill(pid, SIGKILL);
	check(ends(pid, &status) && WIFSIGNALED(status), "kill -9 ends it");
	check(becomes_idle(core), "kill -9 gives the core back");

	pid = spinner(count);
	attach(fd, pid, 0, core);
	check(!detach(fd, pid, 0), "another process is detached");
	check(becomes_idle(core), "its core is free");
	check(grows(count), "it runs on");
	kill(pid, SIGKILL);
	ends(pid, &status);
	munmap((void *)count, 4096);
}

static void test_traps(int fd, int core)
{
	volatile int *volatile nowhere = (int *)8;
	int status;
	pid_t pid = fork();

	if (!pid) {
		attach(fd, 0, 0, core);
		*nowhere = 1;
		_exit(0);
	}
	check(ends(pid, &status) && WIFSIGNALED(status) &&
	      WTERMSIG(status) == SIGSEGV, "a bad address is SIGSEGV");
	pid = fork();
	if (!pid) {
		attach(fd, 0, 0, core);
		asm volatile("ud2");
		_exit(0);
	}
	check(ends(pid, &status) && WIFSIGNALED(status) &&
	      WTERMSIG(status) == SIGILL, "an invalid instruction is SIGILL");
	check(becomes_idle(core), "the core is free after both");
}

/* How often memory that is only read faults again when its process forked. */
static long long faults_after_fork(int core)
{
	const size_t apart = 2 << 20, count = 256;
	volatile char *p = mmap(NULL, count * apart, PROT_READ,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long long before = 0;
	int sum = 0, round;
	size_t i;
	pid_t pid;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < count; i++)
			sum += p[i * apart];
		if (round)
			break;
		before = core_number(core, "faults");
		pid = fork();
		if (!pid)
			_exit(sum);
		waitpid(pid, NULL, 0);
	}
	return core_number(core, "faults") - before;
}

static void test_fork_exec(int fd, int core)
{
	int status, inner;
	pid_t pid;

	pid = fork();
	if (!pid) {
		attach(fd, 0, 0, core);
		pid = fork();
		if (!pid)
			_exit(attach(fd, 0, 0, core) == -EBUSY ? 7 : 8);
		waitpid(pid, &inner, 0);
		_exit(WEXITSTATUS(inner));
	}
	check(ends(pid, &status) && WEXITSTATUS(status) == 7,
	      "a decoupled thread forks; the child is not decoupled");

	pid = fork();
	if (!pid) {
		attach(fd, 0, 0, core);
		_exit(faults_after_fork(core) < 32 ? 7 : 8);
	}
	check(ends(pid, &status) && WEXITSTATUS(status) == 7,
	      "fork takes only what is copied on write from its tables");

	pid = fork();
	if (!pid) {
		attach(fd, 0, 0, core);
		execl("/proc/self/exe", "decouple-test", "--exec-child",
		      core_file(core, "pid"), NULL);
		_exit(9);
	}
	check(ends(pid, &status) && WEXITSTATUS(status) == 0,
	      "exec works from a compute core");
	check(becomes_idle(core), "exec gave the core back");
}

struct sibling {
	int fd, core;
	char *volatile page;
	atomic_int stop;
	atomic_long rounds;
	volatile int got;
};

static void *reader(void *arg)
{
	struct sibling *s = arg;

	s->got = attach(s->fd, 0, 0, s->core);
	while (!atomic_load(&s->stop)) {
		char *page = s->page;

		if (page)
			(void)*(volatile char *)page;
		atomic_fetch_add(&s->rounds, 1);
	}
	return NULL;
}

static void test_threads(int fd, int core)
{
	struct sibling s = { .fd = fd, .core = core };
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_t thread;
	long rounds;
	int i;

	pthread_create(&thread, NULL, reader, &s);
	while (!atomic_load(&s.rounds))
		usleep(1000);
	check(s.got == core, "a sibling thread attaches itself");
	/* Only pages that are not in use are unmapped: no fault is expected. */
	for (i = 0; i < 200; i++) {
		char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		p[0] = p[4096] = i;
		s.page = p;
		rounds = atomic_load(&s.rounds);
		while (atomic_load(&s.rounds) < rounds + 10)
			sched_yield();
		mprotect(p, 4096, PROT_READ);
		s.page = NULL;
		rounds = atomic_load(&s.rounds);
		while (atomic_load(&s.rounds) < rounds + 2)
			sched_yield();
		munmap(p, 8192);
	}
	check(i == 200, "pages come and go under it");
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	atomic_store(&s.stop, 1);
	check(!pthread_join(thread, NULL), "it is joined");
	check(becomes_idle(core), "the core of an ended thread is free");
}

static void test_ptrace(int fd, int core)
{
	volatile long *count = shared_page();
	struct user_regs_struct regs = { 0 };
	pid_t pid = spinner(count);
	int status, i;

	attach(fd, pid, 0, core);
	grows(count);
	check(!ptrace(PTRACE_ATTACH, pid, 0, 0), "a decoupled process is traced");
	waitpid(pid, &status, 0);
	check(!ptrace(PTRACE_GETREGS, pid, 0, &regs) && regs.rip,
	      "its registers are read");
	for (i = 0; i < 20; i++) {
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
	}
	check(i == 20, "it is stepped");
	ptrace(PTRACE_DETACH, pid, 0, 0);
	check(grows(count), "it runs on");
	check(!strcmp(core_file(core, "state"), "running"),
	      "and still on its core");
	kill(pid, SIGKILL);
	ends(pid, &status);
	check(becomes_idle(core), "the core is free");
	munmap((void *)count, 4096);
}

static void test_account(int fd, int core)
{
	volatile long *count = shared_page();
	pid_t pid = spinner(count);
	struct tms t;
	int status;

	attach(fd, pid, 0, core);
	grows(count);
	usleep(300000);
	kill(pid, SIGKILL);
	ends(pid, &status);
	times(&t);
	check(t.tms_cutime > 0, "its time is charged as user time");
	munmap((void *)count, 4096);
}

#define KEPT_PAGES	2048L

/* Maps @pages of memory and touches them. */
static char *touched(long pages)
{
	char *mem = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long i;

	for (i = 0; i < pages; i++)
		mem[i * 4096] = 1;
	return mem;
}

/* The physical pages of @mem, as /proc/self/pagemap has them. */
static bool read_frames(const char *mem, unsigned long long *frames)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	ssize_t size = KEPT_PAGES * sizeof(*frames);
	bool good = pread(fd, frames, size, (long)mem / 4096 * 8) == size;

	close(fd);
	return good;
}

/*
 * A process with memory of its own. It counts in shared[0] until shared[1] is
 * set, and ends with 0 if its pages are where they were, 1 if some moved.
 */
static pid_t keeper(volatile long *shared)
{
	static unsigned long long before[KEPT_PAGES], after[KEPT_PAGES];
	pid_t pid = fork();
	char *mem;

	if (pid)
		return pid;
	mem = touched(KEPT_PAGES);
	if (!read_frames(mem, before))
		_exit(2);
	while (!shared[1])
		++shared[0];
	if (!read_frames(mem, after))
		_exit(2);
	_exit(!!memcmp(before, after, sizeof(before)));
}

/*
 * Frees half of the pages one by one, here and there: who takes memory next
 * gets single pages from all over the machine.
 */
static void make_holes(char *mem, long pages)
{
	long i, half = pages / 2;

	for (i = 0; i < half; i++)
		madvise(mem + (i * 7919 % half) * 8192, 4096, MADV_DONTNEED);
}

/* Exit status of a keeper while memory full of holes is compacted. */
static int compact_around(int fd, int core)
{
	long i, pages = sysconf(_SC_AVPHYS_PAGES) / 4 * 3;
	char *mem = touched(pages);
	volatile long *shared = shared_page();
	int status, compact;
	pid_t pid;

	madvise(mem, pages * 4096, MADV_DONTFORK);
	make_holes(mem, pages);
	pid = keeper(shared);
	if (!grows(shared) || (core >= 0 && attach(fd, pid, 0, core) != core))
		kill(pid, SIGKILL);
	for (i = 1; i < pages; i += 4) /* room to move to */
		madvise(mem + i * 4096, 4096, MADV_DONTNEED);
	compact = open("/proc/sys/vm/compact_memory", O_WRONLY);
	for (i = 0; i < 3; i++)
		if (write(compact, "1", 1) != 1)
			kill(pid, SIGKILL);
	close(compact);
	shared[1] = 1;
	if (!ends(pid, &status))
		status = -1;
	munmap(mem, pages * 4096);
	munmap((void *)shared, 4096);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_compaction(int fd, int core)
{
	check(compact_around(fd, -1) == 1, "compaction moves pages of others");
	check(compact_around(fd, core) == 0, "but not those of the decoupled");
}

static void test_errors(int fd, int core, int cores)
{
	struct decouple_attach bad = { .core = -1, .flags = 1 }, *request;
	volatile long *count = shared_page();
	int other = open_device(), status, i;
	pid_t pids[64], pid;

	check(ioctl(fd, DECOUPLE_ATTACH, &bad) && errno == EINVAL,
	      "unknown flags are EINVAL");
	check(ioctl(fd, DECOUPLE_ATTACH, (void *)8) && errno == EFAULT,
	      "a bad pointer is EFAULT");
	/* It can be read, but the answer cannot be written. */
	request = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	request->core = core;
	mprotect(request, 4096, PROT_READ);
	check(ioctl(fd, DECOUPLE_ATTACH, request) && errno == EFAULT &&
	      detach(fd, 0, 0) == -ENOENT && becomes_idle(core),
	      "where the answer cannot be written nothing is attached");
	munmap(request, 4096);
	check(ioctl(fd, _IO('D', 99)) && errno == ENOTTY,
	      "an unknown request is ENOTTY");
	check(attach(fd, 0, 0, 63) == -ENODEV, "core 63 is ENODEV");
	check(attach(fd, 0, 0, 0) == -EINVAL, "the service core is EINVAL");
	check(attach(fd, 0, 0, -2) == -EINVAL, "core -2 is EINVAL");
	check(attach(fd, 999999, 0, -1) == -ESRCH, "no such process is ESRCH");
	check(attach(fd, -1, 0, -1) == -EINVAL, "a negative pid is EINVAL");
	check(attach(fd, 2, 0, -1) == -EPERM, "a kernel thread is EPERM");

	for (i = 0; i < cores; i++) {
		pids[i] = spinner(count);
		if (attach(fd, pids[i], 0, -1) < 0)
			break;
	}
	check(i == cores, "every core is taken by first free");
	check(attach(fd, 0, 0, -1) == -EBUSY, "then none is free: EBUSY");
	check(attach(fd, 0, 0, core) == -EBUSY, "and a taken one is EBUSY");
	for (i = 0; i < cores; i++) {
		kill(pids[i], SIGKILL);
		ends(pids[i], &status);
	}
	check(becomes_idle(core), "all are free again");

	check(!reserve(other, DECOUPLE_RESERVE, 1ULL << core), "reserve");
	check(!strcmp(core_file(core, "state"), "reserved") &&
	      core_number(core, "reserved_by") == getpid(), "sysfs shows by whom");
	check(reserve(fd, DECOUPLE_RESERVE, 1ULL << core) == -EBUSY,
	      "a second reservation is EBUSY");
	check(reserve(fd, DECOUPLE_RESERVE, 1) == -EINVAL,
	      "the service core cannot be reserved");
	pid = fork();
	if (!pid)
		_exit(attach(fd, 0, 0, core) == core ? 0 : 1);
	check(ends(pid, &status) && !status, "a descendant may use it");
	becomes_idle(core);
	close(other);
	check(!strcmp(core_file(core, "state"), "idle"),
	      "close releases the reservation");
	munmap((void *)count, 4096);
}

static void test_permission(int fd, int core)
{
	volatile long *count = shared_page();
	pid_t victim = spinner(count), pid;
	int status;

	grows(count);
	pid = fork();
	if (!pid) {
		if (setgid(1000) || setuid(1000))
			_exit(2);
		_exit(attach(fd, victim, 0, core) == -EPERM ? 0 : 1);
	}
	check(ends(pid, &status) && !status,
	      "somebody else's process is EPERM");
	kill(victim, SIGKILL);
	ends(victim, &status);
	munmap((void *)count, 4096);
}

static void prepare(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
}

int main(int argc, char **argv)
{
	struct decouple_version version = { 0 };
	int fd, core;

	if (argc > 1 && !strcmp(argv[1], "--exec-child"))
		return argc == 3 && atoi(argv[2]) == getpid() ? 0 : 1;
	if (getpid() == 1)
		prepare();

	fd = open_device();
	if (fd < 0) {
		printf("Bail out! /dev/decouple: %s\n", strerror(errno));
		goto out;
	}
	check(!ioctl(fd, DECOUPLE_VERSION, &version) && version.abi == 1,
	      "the version is 1");
	if (!version.cores) {
		check(attach(fd, 0, 0, -1) == -ENODEV,
		      "without compute cores attach is ENODEV");
		goto out;
	}

	core = attach(fd, 0, 0, -1);
	check(core > 0, "first free");
	detach(fd, 0, 0);
	test_self(fd, core);
	test_clock(fd, core);
	test_traps(fd, core);
	test_signals(fd, core);
	test_fork_exec(fd, core);
	test_threads(fd, core);
	test_ptrace(fd, core);
	test_account(fd, core);
	test_compaction(fd, core);
	test_errors(fd, core, version.cores);
	test_permission(fd, core);
out:
	printf("1..%d\n# %d failed\n", tests, failures);
	fflush(stdout);
	if (getpid() == 1) {
		sync();
		reboot(RB_POWER_OFF);
	}
	return failures > 100 ? 100 : failures;
}
