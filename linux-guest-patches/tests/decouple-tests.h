/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of /dev/decouple share: TAP, requests, sysfs, children. */
#ifndef DECOUPLE_TESTS_H
#define DECOUPLE_TESTS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/decouple.h>

static int tests, failures;

static inline void check(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, what);
	fflush(stdout);
	failures += !good;
}

static inline int open_device(void)
{
	return open("/dev/decouple", O_RDWR | O_CLOEXEC);
}

/* 0 and the core, or the negative errno. */
static inline int attach(int fd, int pid, int tid, int core)
{
	struct decouple_attach a = { .pid = pid, .tid = tid, .core = core };

	return ioctl(fd, DECOUPLE_ATTACH, &a) ? -errno : a.core;
}

static inline int detach(int fd, int pid, int tid)
{
	struct decouple_detach d = { .pid = pid, .tid = tid };

	return ioctl(fd, DECOUPLE_DETACH, &d) ? -errno : 0;
}

static inline int reserve(int fd, unsigned long request, unsigned long long cores)
{
	struct decouple_reserve r = { .cores = { cores } };

	return ioctl(fd, request, &r) ? -errno : 0;
}

static inline const char *core_file(int core, const char *name)
{
	static char text[4096];
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/decouple/core%d/%s", core, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return "(none)";
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	return text;
}

static inline long long core_number(int core, const char *name)
{
	return atoll(core_file(core, name));
}

/* Sleeps, and looks again, until the core is free: up to five seconds. */
static inline bool becomes_idle(int core)
{
	int i;

	for (i = 0; i < 500; i++) {
		if (!strcmp(core_file(core, "state"), "idle"))
			return true;
		usleep(10000);
	}
	return false;
}

static inline bool ends(pid_t pid, int *status)
{
	int i;

	for (i = 0; i < 1000; i++) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		usleep(10000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, status, 0);
	return false;
}

/* A shared page that tells how far a child is. */
static inline volatile long *shared_page(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static inline bool grows(volatile long *count)
{
	long before = *count;
	int i;

	for (i = 0; i < 500; i++) {
		if (*count > before + 1000)
			return true;
		usleep(10000);
	}
	return false;
}

static inline pid_t spinner(volatile long *count)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	for (;;)
		++*count;
}

#endif
