// SPDX-License-Identifier: GPL-2.0
/*
 * What a program may expect of a Linux with several CPUs: that they are there
 * and run at the same time, and that what one thread does to the address space
 * is true for the threads on other CPUs when its system call returns. Runs on
 * any x86-64 Linux with two CPUs or more. Prints TAP; exits with the number of
 * failures.
 *
 * cc -static -O2 -pthread -o smp-test smp-test.c; ./smp-test [CPUS]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096ul
#define ROUNDS	300

static int number, failures;
static int cpus;

static void check(bool ok, const char *name)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++number, name);
	fflush(stdout);
	failures += !ok;
}

static bool run_on(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(tid, sizeof(set), &set);
}

static int cpu_by_call(void)
{
	unsigned int cpu = ~0u;

	return syscall(SYS_getcpu, &cpu, NULL, NULL) ? -1 : (int)cpu;
}

static long switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

/* The other thread: it runs @fn on another CPU than the test's own. */
static _Atomic bool stop;
static _Atomic pid_t other_tid;
static int other_cpu;
static pthread_t other;

static void *begin(void *arg)
{
	void (*fn)(void) = (void (*)(void))arg;

	run_on(0, other_cpu);
	other_tid = gettid();
	fn();
	return NULL;
}

static void start_other(void (*fn)(void))
{
	stop = false;
	other_tid = 0;
	other_cpu = cpus - 1;
	run_on(0, 0);
	pthread_create(&other, NULL, begin, (void *)fn);
	while (!other_tid)
		sched_yield();
}

static void end_other(void)
{
	stop = true;
	pthread_join(other, NULL);
}

static int count_in(const char *path, const char *prefix)
{
	FILE *file = fopen(path, "r");
	char line[4096];
	int n = 0;

	while (file && fgets(line, sizeof(line), file))
		n += !strncmp(line, prefix, strlen(prefix));
	if (file)
		fclose(file);
	return n;
}

static void test_numbers(void)
{
	char online[32] = "", wanted[32];
	cpu_set_t set;
	FILE *file;

	check(sysconf(_SC_NPROCESSORS_ONLN) == cpus && sysconf(_SC_NPROCESSORS_CONF) >= cpus,
	      "sysconf knows as many processors as there are service cores");
	file = fopen("/sys/devices/system/cpu/online", "r");
	snprintf(wanted, sizeof(wanted), "0-%d\n", cpus - 1);
	check(file && fgets(online, sizeof(online), file) && !strcmp(online, wanted),
	      "all are online in sysfs");
	if (file)
		fclose(file);
	CPU_ZERO(&set);
	check(!sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) == cpus,
	      "a process may run on each of them");
	check(count_in("/proc/cpuinfo", "processor\t") == cpus &&
	      count_in("/proc/stat", "cpu") == cpus + 1,
	      "/proc/cpuinfo and /proc/stat have each of them");
}

static void test_affinity(void)
{
	bool same = true;
	int cpu;

	for (cpu = 0; cpu < cpus; cpu++)
		same &= run_on(0, cpu) && cpu_by_call() == cpu && sched_getcpu() == cpu;
	check(same, "a thread is where it was bound to, by the system call and by the vDSO");
	check(!run_on(0, cpus) && errno == EINVAL, "it cannot be bound to a CPU that is not there");
}

static _Atomic uint64_t beats;

static void beat(void)
{
	while (!stop)
		beats++;
}

/* The other's counter moves while this thread never gives way. */
static void test_parallel(void)
{
	bool parallel = false;
	int i;

	start_other(beat);
	for (i = 0; i < 1000 && !parallel; i++) {
		long before = switches();
		uint64_t first = beats;
		int spin;

		for (spin = 0; spin < 100000; spin++)
			asm volatile("pause");
		parallel = beats > first + 100 && switches() == before;
	}
	end_other();
	check(parallel, "two threads run at the same time");
}

static _Atomic int caught;

static void handler(int sig)
{
	caught++;
}

/* It makes no system call: only an interrupt of its CPU brings the signal. */
static void test_signals(void)
{
	int i;

	signal(SIGUSR1, handler);
	caught = 0;
	start_other(beat);
	for (i = 0; i < ROUNDS; i++) {
		pthread_kill(other, SIGUSR1);
		while (caught != i + 1)
			asm volatile("pause");
	}
	end_other();
	check(caught == ROUNDS, "a signal reaches a thread that runs on another CPU");
}

static volatile uint32_t *target;
static _Atomic bool may_write;
static _Atomic long faults;

static void on_fault(int sig)
{
	faults++;
	while (!may_write && !stop)
		asm volatile("pause");
}

static void write_always(void)
{
	while (!stop)
		++*target;
}

static void *fresh(int prot)
{
	return mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void test_mprotect(void)
{
	bool quiet = true;
	long seen = 0;
	int i;

	signal(SIGSEGV, on_fault);
	target = fresh(PROT_READ | PROT_WRITE);
	may_write = true;
	start_other(write_always);
	for (i = 0; i < ROUNDS; i++) {
		uint32_t value, before;
		int spin;

		before = *target;
		while (*target == before)
			asm volatile("pause");
		may_write = false;
		mprotect((void *)target, PAGE, PROT_READ);
		value = *target;
		for (spin = 0; spin < 200; spin++)
			quiet &= *target == value;
		while (faults == seen)
			asm volatile("pause");
		quiet &= *target == value;
		seen = faults;
		mprotect((void *)target, PAGE, PROT_READ | PROT_WRITE);
		may_write = true;
	}
	end_other();
	signal(SIGSEGV, SIG_DFL);
	munmap((void *)target, PAGE);
	check(quiet, "after mprotect() no other CPU writes to the page");
}

static _Atomic uint32_t announced;
static _Atomic long stale, looked;

static void look(void)
{
	while (!stop) {
		uint32_t least = announced;

		if (*target < least)
			stale++;
		looked++;
	}
}

/* Page i of the file holds i: the mapping moves on, and the reader must follow. */
static void test_remap(void)
{
	int fd = memfd_create("pages", 0);
	uint32_t i;

	for (i = 0; i < ROUNDS; i++)
		pwrite(fd, &i, sizeof(i), i * PAGE);
	target = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	announced = 0;
	stale = looked = 0;
	start_other(look);
	for (i = 1; i < ROUNDS; i++) {
		long before = looked;

		mmap((void *)target, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, i * PAGE);
		announced = i;
		while (looked < before + 3)
			asm volatile("pause");
	}
	end_other();
	munmap((void *)target, PAGE);
	close(fd);
	check(looked && !stale, "after mmap() over it no other CPU reads the old page");
}

static _Atomic bool bad_page;

/* Reads a page that goes away and comes back zero, in a system call. */
static void copy_always(void)
{
	int pipes[2];
	char buffer[64];

	pipe2(pipes, O_NONBLOCK);
	while (!stop) {
		if (write(pipes[1], (void *)target, sizeof(buffer)) != sizeof(buffer))
			continue;
		if (read(pipes[0], buffer, sizeof(buffer)) == sizeof(buffer))
			for (size_t i = 0; i < sizeof(buffer); i++)
				if (buffer[i] != 0 && buffer[i] != 7)
					bad_page = true;
	}
	close(pipes[0]);
	close(pipes[1]);
}

static void test_user_copies(void)
{
	int i;

	bad_page = false;
	target = fresh(PROT_READ | PROT_WRITE);
	start_other(copy_always);
	for (i = 0; i < ROUNDS; i++) {
		char *more = fresh(PROT_READ | PROT_WRITE);

		memset((void *)target, 7, PAGE);
		munmap((void *)target, PAGE);
		/* Perhaps the page that was just freed. */
		memset(more, 1, PAGE);
		mmap((void *)target, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		munmap(more, PAGE);
	}
	end_other();
	munmap((void *)target, PAGE);
	check(!bad_page, "a system call copies from no page that was unmapped meanwhile");
}

static void test_fork(void)
{
	bool still = true;
	int i;

	target = fresh(PROT_READ | PROT_WRITE);
	start_other(write_always);
	for (i = 0; i < 200; i++) {
		int status;
		pid_t pid = fork();

		if (!pid) {
			uint32_t value = *target;
			int spin;

			for (spin = 0; spin < 5000; spin++)
				if (*target != value)
					_exit(1);
			_exit(0);
		}
		still &= pid > 0 && waitpid(pid, &status, 0) == pid && !status;
	}
	end_other();
	munmap((void *)target, PAGE);
	check(still, "a child sees nothing of what another thread writes after fork()");
}

static _Atomic int dekker_x, dekker_y, dekker_seen, dekker_round, dekker_done;

static void dekker(void)
{
	int round = 0;

	while (!stop) {
		if (dekker_round == round)
			continue;
		round = dekker_round;
		atomic_store_explicit(&dekker_y, 1, memory_order_relaxed);
		atomic_signal_fence(memory_order_seq_cst);
		dekker_seen = atomic_load_explicit(&dekker_x, memory_order_relaxed);
		dekker_done = round;
	}
}

static void test_membarrier(void)
{
	bool ok = !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	int i;

	dekker_round = dekker_done = 0;
	start_other(dekker);
	for (i = 1; i < ROUNDS; i++) {
		int seen;

		dekker_x = dekker_y = 0;
		dekker_round = i;
		atomic_store_explicit(&dekker_x, 1, memory_order_relaxed);
		ok &= !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
		seen = atomic_load_explicit(&dekker_y, memory_order_relaxed);
		while (dekker_done != i)
			asm volatile("pause");
		ok &= seen || dekker_seen;
	}
	end_other();
	check(ok, "membarrier() orders the memory of a thread on another CPU");
	ok = true;
	for (i = 0; i < 3; i++)
		ok &= !syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	check(ok, "grace periods of RCU end");
}

static _Atomic bool damaged;

/* All of xmm0 to xmm7, held across whatever moves the thread. */
static void hold_registers(void)
{
	uint64_t round = 0;

	while (!stop) {
		uint64_t in[2] = { ++round, ~round }, out[2];
		int spin;

		asm volatile("movdqu %0, %%xmm7" : : "m" (in) : "xmm7");
		for (spin = 0; spin < 200; spin++)
			asm volatile("pause");
		asm volatile("movdqu %%xmm7, %0" : "=m" (out));
		if (out[0] != in[0] || out[1] != in[1])
			damaged = true;
	}
}

static void test_extended_state(void)
{
	int i;

	damaged = false;
	start_other(hold_registers);
	for (i = 0; i < ROUNDS; i++)
		run_on(other_tid, i % cpus);
	end_other();
	check(!damaged, "vector registers go with a thread from CPU to CPU");
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn;

static void answer(void)
{
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < ROUNDS; i++) {
		while (turn != 1)
			pthread_cond_wait(&condition, &mutex);
		turn = 0;
		pthread_cond_signal(&condition);
	}
	pthread_mutex_unlock(&mutex);
}

static void test_futex(void)
{
	int i;

	turn = 0;
	start_other(answer);
	pthread_mutex_lock(&mutex);
	for (i = 0; i < ROUNDS; i++) {
		turn = 1;
		pthread_cond_signal(&condition);
		while (turn != 0)
			pthread_cond_wait(&condition, &mutex);
	}
	pthread_mutex_unlock(&mutex);
	end_other();
	check(true, "two CPUs take turns by futexes");
}

/* Address spaces come and go on all CPUs, and what is written stays. */
static void test_processes(void)
{
	bool good = true;
	pid_t pids[8];
	int i;

	for (i = 0; i < 8; i++) {
		pids[i] = fork();
		if (pids[i])
			continue;
		run_on(0, i % cpus);
		for (int round = 0; round < 40; round++) {
			uint32_t *p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			int status;
			pid_t pid;

			for (int page = 0; page < 64; page++)
				p[page * 1024] = i * 1000 + page;
			pid = fork();
			if (!pid) {
				run_on(0, round % cpus);
				for (int page = 0; page < 64; page++) {
					if (p[page * 1024] != (uint32_t)(i * 1000 + page))
						_exit(1);
					p[page * 1024] = 0;
				}
				_exit(0);
			}
			if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
				_exit(1);
			for (int page = 0; page < 64; page++)
				if (p[page * 1024] != (uint32_t)(i * 1000 + page))
					_exit(1);
			munmap(p, 64 * PAGE);
		}
		_exit(0);
	}
	for (i = 0; i < 8; i++) {
		int status;

		good &= pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i] && !status;
	}
	check(good, "many processes fork, move and write at the same time");
}

int main(int argc, char **argv)
{
	cpus = argc > 1 ? atoi(argv[1]) : sysconf(_SC_NPROCESSORS_ONLN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_numbers();
	test_affinity();
	test_parallel();
	test_signals();
	test_mprotect();
	test_remap();
	test_user_copies();
	test_fork();
	test_membarrier();
	test_extended_state();
	test_futex();
	test_processes();
	printf("1..%d\n# %d failures\n", number, failures);
	return failures > 100 ? 100 : failures;
}
