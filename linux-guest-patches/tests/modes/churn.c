// SPDX-License-Identifier: GPL-2.0
/*
 * Does a bit of everything in random order, and knows the result of each: with
 * signals, timers, fork, exec, threads, sleeps and arithmetic interleaved with
 * moves, nothing may be lost, done twice, or come too early.
 *
 *   churn [ROUNDS [SEED]]
 */
#include "modes.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

static volatile sig_atomic_t caught;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	volatile double own = 2.5;

	/* Must not be seen by who is interrupted. */
	own = own * own + sig;
	caught++;
}

/* Every signal that was sent is handled, once. */
static void signals(unsigned int n)
{
	union sigval value = { .sival_int = 1 };
	int before = caught;

	for (unsigned int i = 0; i < n % 8 + 1; i++)
		if (sigqueue(getpid(), SIGRTMIN, value))
			before--;
	EXPECT(caught == before + (int)(n % 8) + 1, "%d of %u signals",
	       caught - before, n % 8 + 1);
}

/* Sums of small whole numbers are exact in every register that may hold them. */
static void arithmetic(unsigned int n)
{
	double a = 0, b = 0, c = 1, d = 0;
	long whole = 0;

	for (unsigned int i = 0; i < 20000; i++) {
		a += i;
		b -= i;
		c *= i & 1 ? 2 : 0.5;
		d += a + b;
		whole += i ^ n;
	}
	for (unsigned int i = 0; i < 20000; i++)
		whole -= i ^ n;
	EXPECT(a == 199990000.0 && b == -a && c == 1 && d == 0 && whole == 0,
	       "%f %f %f %f %ld", a, b, c, d, whole);
}

static void memory(unsigned int n)
{
	size_t size = (n % 64 + 1) << 12;
	unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED, "mmap");
	if (p == MAP_FAILED)
		return;
	for (size_t i = 0; i < size; i += 512)
		p[i] = i >> 9 ^ n;
	EXPECT(!mprotect(p, size, PROT_READ), "mprotect");
	for (size_t i = 0; i < size; i += 512)
		EXPECT(p[i] == (unsigned char)(i >> 9 ^ n), "byte %zu", i);
	EXPECT(!munmap(p, size), "munmap");
}

static void forks(unsigned int n)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		arithmetic(n);
		_exit(wrong ? 1 : n % 100 + 2);
	}
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == n % 100 + 2, "a child: %d, %#x", pid, status);
}

static void execs(unsigned int n)
{
	char number[16];
	int status;
	pid_t pid = vfork();

	snprintf(number, sizeof(number), "%u", n);
	if (!pid) {
		execl("/proc/self/exe", "churn", "--sum", number, NULL);
		_exit(99);
	}
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == n % 50, "a program: %d, %#x", pid, status);
}

static atomic_int turns;

static void *sibling(void *arg)
{
	for (int i = 0; i < 50; i++) {
		atomic_fetch_add(&turns, 1);
		if (i % 10 == 0)
			sched_yield();
	}
	memory((unsigned int)(long)arg);
	return arg;
}

static void threads(unsigned int n)
{
	pthread_t pair[2];
	void *result;

	turns = 0;
	for (int i = 0; i < 2; i++)
		pthread_create(&pair[i], NULL, sibling, (void *)(long)(n + i));
	for (int i = 0; i < 2; i++) {
		pthread_join(pair[i], &result);
		EXPECT(result == (void *)(long)(n + i), "a thread's result");
	}
	EXPECT(turns == 100, "%d turns", turns);
}

static void sleeps(unsigned int n)
{
	long ns = n % 3000 * 1000;
	struct timespec nap = { 0, ns }, left = { 0, 0 };
	double begun = seconds_of(CLOCK_MONOTONIC), took;

	EXPECT(!nanosleep(&nap, &left), "nanosleep: errno %d, %ld ns left", errno,
	       left.tv_nsec);
	took = seconds_of(CLOCK_MONOTONIC) - begun;
	EXPECT(took * 1e9 >= ns - 1, "%ld ns took %.0f", ns, took * 1e9);
}

static void pipes(unsigned int n)
{
	static char out[3000], in[sizeof(out)];
	size_t got = 0;
	ssize_t part;
	int ends[2];
	pid_t pid;

	memset(out, n, sizeof(out));
	if (pipe(ends)) {
		EXPECT(0, "pipe");
		return;
	}
	pid = fork();
	if (!pid) {
		for (int i = 0; i < 3; i++)
			write(ends[1], out + i * 1000, 1000);
		_exit(0);
	}
	close(ends[1]);
	while ((part = read(ends[0], in + got, sizeof(in) - got)) > 0)
		got += part;
	EXPECT(part == 0 && got == sizeof(in) && !memcmp(in, out, sizeof(in)),
	       "%zu bytes came, errno %d", got, errno);
	close(ends[0]);
	EXPECT(waitpid(pid, NULL, 0) == pid, "waitpid: errno %d", errno);
}

/* A timer that comes once, while the thread computes. */
static void timers(unsigned int n)
{
	struct itimerval once = { .it_value = { 0, n % 2000 + 1 } };
	volatile unsigned long sink = 0;
	int before = caught;

	setitimer(ITIMER_REAL, &once, NULL);
	while (caught == before)
		sink++;
	EXPECT(caught == before + 1, "%d alarms", caught - before);
}

/* Time goes on, whichever clock of whichever core is read. */
static void clocks(unsigned int n)
{
	static double last_wall, last_cpu;

	for (int i = 0; i < 20; i++) {
		double wall = seconds_of(CLOCK_MONOTONIC);
		double cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);

		EXPECT(wall >= last_wall, "time went back by %g s", last_wall - wall);
		EXPECT(cpu >= last_cpu, "CPU time went back by %g s", last_cpu - cpu);
		last_wall = wall;
		last_cpu = cpu;
	}
}

int main(int argc, char **argv)
{
	static void (*const kinds[])(unsigned int n) = {
		signals, arithmetic, memory, forks, execs, threads, sleeps, pipes,
		timers, clocks,
	};
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	int rounds = argc > 1 ? atoi(argv[1]) : 1000;
	unsigned int seed = argc > 2 ? atoi(argv[2]) : 1;

	if (argc > 2 && !strcmp(argv[1], "--sum"))
		return seed % 50;
	sigaction(SIGRTMIN, &act, NULL);
	sigaction(SIGALRM, &act, NULL);
	for (int i = 0; i < rounds && !wrong; i++)
		kinds[rand_r(&seed) % (sizeof(kinds) / sizeof(*kinds))](rand_r(&seed));
	return wrong;
}
