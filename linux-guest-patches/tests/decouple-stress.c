// SPDX-License-Identifier: GPL-2.0
/*
 * Decoupled processes that do what is awkward at once, while others stop,
 * signal, detach, attach and kill them. At the end every core must be free.
 *
 * decouple-stress [SECONDS [SEED]]; exits 0 if all is well. As PID 1 it takes
 * 10 seconds and powers off.
 *
 * cc -static -O2 -pthread -I../files/include/uapi -o decouple-stress decouple-stress.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/decouple.h>

#define CHILDREN 4

/* One line in memory that all see: work done, and what went wrong. */
struct shared {
	atomic_long work[CHILDREN];
	atomic_long attached;
	atomic_long wrong;
};

static struct shared *shared;
static int device;
static unsigned int cores;

static int attach(int pid)
{
	struct decouple_attach a = { .pid = pid, .core = -1 };

	return ioctl(device, DECOUPLE_ATTACH, &a) ? -errno : a.core;
}

static int detach(int pid)
{
	struct decouple_detach d = { .pid = pid };

	return ioctl(device, DECOUPLE_DETACH, &d) ? -errno : 0;
}

static void wrong(const char *what)
{
	atomic_fetch_add(&shared->wrong, 1);
	dprintf(1, "WRONG: %s (errno %d)\n", what, errno);
}

static volatile sig_atomic_t caught;

static void handler(int sig)
{
	volatile double x = 1.5;

	/* The handler's own floating point must not be seen outside. */
	x = x * x + sig;
	caught++;
}

static void memory(unsigned int n)
{
	size_t size = (n % 64 + 1) << 12, i;
	volatile char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		wrong("mmap");
		return;
	}
	for (i = 0; i < size; i += 4096)
		p[i] = i >> 12;
	for (i = 0; i < size; i += 4096)
		if (p[i] != (char)(i >> 12))
			wrong("memory contents");
	if (munmap((void *)p, size))
		wrong("munmap");
}

static void floating(void)
{
	double a = 1, b = 3, c = 5, d = 7;
	int i;

	for (i = 0; i < 2000; i++) {
		a = a * 1.0000001 + b;
		b = b * 0.9999999 + 1e-9;
		c += 1;
		d -= 1;
	}
	if (c != 2005 || d != -1993 || !(a > 5000) || !(b < 3))
		wrong("floating point");
}

static void forked(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		_exit(17);
	if (pid < 0 || waitpid(pid, &status, 0) != pid ||
	    WEXITSTATUS(status) != 17)
		wrong("fork");
}

static void *sibling(void *arg)
{
	int i;

	for (i = 0; i < 20; i++)
		memory(i);
	return arg;
}

static void threaded(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, sibling, NULL)) {
		wrong("pthread_create");
		return;
	}
	memory(63);
	pthread_join(thread, NULL);
}

static void child(int index, unsigned int seed)
{
	struct timespec nap = { .tv_nsec = 20000 };
	volatile long spin;
	int core;

	core = attach(0);
	if (core > 0)
		atomic_fetch_add(&shared->attached, 1);
	else if (core != -EBUSY && core != -EALREADY)
		wrong("attach");

	for (;;) {
		switch (rand_r(&seed) % 16) {
		case 0:
			forked();
			break;
		case 1:
			threaded();
			break;
		case 2:
			nanosleep(&nap, NULL);
			break;
		case 3:
			detach(0);
			break;
		case 4:
			if (attach(0) > 0)
				atomic_fetch_add(&shared->attached, 1);
			break;
		case 5:
			raise(SIGUSR1);
			break;
		case 6:
		case 7:
			memory(rand_r(&seed));
			break;
		case 8:
		case 9:
			for (spin = 0; spin < 20000; spin++)
				;
			break;
		case 10:
			if (syscall(SYS_getpid) != syscall(SYS_gettid))
				wrong("getpid");
			break;
		default:
			floating();
		}
		atomic_fetch_add(&shared->work[index], 1);
	}
}

static pid_t start(int index)
{
	static unsigned int seed = 1;
	pid_t pid = fork();

	seed++;
	if (!pid)
		child(index, seed);
	return pid;
}

static bool all_idle(void)
{
	char path[64], state[16];
	unsigned int i, idle = 0;
	int fd;

	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/decouple/core%u/state", i);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		memset(state, 0, sizeof(state));
		if (read(fd, state, sizeof(state) - 1) > 0 && !strncmp(state, "idle", 4))
			idle++;
		close(fd);
	}
	return idle == cores;
}

/* As PID 1 it also gets the orphans of those it killed. */
static bool ended(const pid_t *pids)
{
	int status, i;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (i = 0; i < CHILDREN; i++) {
			if (pids[i] != pid)
				continue;
			dprintf(1, "status %#x\n", status);
			wrong("a child ended");
			return true;
		}
	}
	return false;
}

static int run(int seconds, unsigned int seed)
{
	long killed = 0, signalled = 0, moved = 0;
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART };
	time_t end = time(NULL) + seconds;
	pid_t pids[CHILDREN];
	long total = 0;
	int i, status;

	/* Before there are children: they may be signalled at once. */
	sigaction(SIGUSR1, &act, NULL);
	for (i = 0; i < CHILDREN; i++)
		pids[i] = start(i);

	while (time(NULL) < end) {
		pid_t *pid = &pids[rand_r(&seed) % CHILDREN];

		switch (rand_r(&seed) % 12) {
		case 0:
			kill(*pid, SIGKILL);
			waitpid(*pid, &status, 0);
			*pid = start(pid - pids);
			killed++;
			break;
		case 1:
			kill(*pid, SIGSTOP);
			usleep(rand_r(&seed) % 2000);
			kill(*pid, SIGCONT);
			break;
		case 2:
		case 3:
			moved += !detach(*pid);
			break;
		case 4:
		case 5:
			moved += attach(*pid) > 0;
			break;
		default:
			kill(*pid, SIGUSR1);
			signalled++;
		}
		usleep(rand_r(&seed) % 3000);
		if (ended(pids))
			break;
	}

	for (i = 0; i < CHILDREN; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], &status, 0);
		total += atomic_load(&shared->work[i]);
	}
	for (i = 0; i < 200 && !all_idle(); i++)
		usleep(10000);
	if (!all_idle())
		wrong("a core was not given back");
	printf("%ld steps, %ld attached by themselves, %ld moved by others, %ld signals, %ld killed, %ld wrong\n",
	       total, atomic_load(&shared->attached), moved, signalled, killed,
	       atomic_load(&shared->wrong));
	return total > 0 && atomic_load(&shared->attached) > 0 && moved > 0 &&
	       !atomic_load(&shared->wrong) ? 0 : 1;
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 10, result = 1;
	struct decouple_version version;

	if (getpid() == 1) {
		seconds = 10;
		mkdir("/sys", 0755);
		mkdir("/dev", 0755);
		mount("sysfs", "/sys", "sysfs", 0, NULL);
		mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	}
	device = open("/dev/decouple", O_RDWR | O_CLOEXEC);
	if (device < 0 || ioctl(device, DECOUPLE_VERSION, &version)) {
		perror("/dev/decouple");
	} else {
		cores = version.cores;
		shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		result = run(seconds, argc > 2 ? atoi(argv[2]) : 1);
		printf("%s\n", result ? "STRESS FAILED" : "STRESS OK");
	}
	fflush(stdout);
	if (getpid() == 1) {
		sync();
		reboot(RB_POWER_OFF);
	}
	return result;
}
