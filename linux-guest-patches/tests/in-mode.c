// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a program undecoupled, decoupled, or moved to and fro while it runs.
 * What it does must not depend on that.
 *
 *   in-mode undecoupled|decoupled|moved PROGRAM [ARGUMENT...]
 *
 * "decoupled": before its first instruction, and every thread and child of it
 * as soon as it is seen and a core is free. "moved": these threads go over and
 * come back at random, some hundred times a second. Exits as the program does
 * (128 and the signal, if one ended it); 125 if it could not be run like that,
 * which includes that no thread was ever decoupled.
 *
 * cc -static -O2 -I../files/include/uapi -o in-mode in-mode.c
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/decouple.h>

#define THREADS		64
#define FAILED		125

enum mode { UNDECOUPLED, DECOUPLED, MOVED };

struct thread {
	pid_t pid, tid;
};

static int device;
static long attached, detached;

static void fail(const char *what)
{
	fprintf(stderr, "in-mode: %s: %s\n", what, strerror(errno));
	exit(FAILED);
}

static bool attach(const struct thread *t)
{
	struct decouple_attach request = {
		.pid = t->pid, .tid = t->tid, .core = DECOUPLE_CORE_ANY
	};

	if (ioctl(device, DECOUPLE_ATTACH, &request))
		return false;
	attached++;
	return true;
}

static void detach(const struct thread *t)
{
	struct decouple_detach request = { .pid = t->pid, .tid = t->tid };

	detached += !ioctl(device, DECOUPLE_DETACH, &request);
}

/* Adds the threads of a process and of its descendants. */
static int collect(pid_t pid, struct thread *threads, int count)
{
	char path[64];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	if (!folder)
		return count;
	while (count < THREADS && (entry = readdir(folder))) {
		pid_t tid = atoi(entry->d_name);
		FILE *children;
		int child;

		if (!tid)
			continue;
		threads[count++] = (struct thread){ pid, tid };
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, tid);
		children = fopen(path, "r");
		while (children && fscanf(children, "%d", &child) == 1)
			count = collect(child, threads, count);
		if (children)
			fclose(children);
	}
	closedir(folder);
	return count;
}

/* One look at the program's threads, and what is to be done about them. */
static void step(pid_t pid, enum mode mode)
{
	struct thread threads[THREADS];
	int i, count = collect(pid, threads, 0);

	if (mode == DECOUPLED) {
		for (i = 0; i < count; i++)
			attach(&threads[i]);
		usleep(10000);
	} else {
		if (count) {
			struct thread *t = &threads[random() % count];

			if (!attach(t))
				detach(t);
		}
		usleep(random() % 8000);
	}
}

/* The program, stopped before its first instruction. */
static pid_t start(char **argv)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(argv[0], argv);
		fail(argv[0]);
	}
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (WIFEXITED(status))
		exit(WEXITSTATUS(status));
	return pid;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "undecoupled", "decoupled", "moved" };
	struct thread first;
	int mode, status;
	pid_t pid;

	for (mode = UNDECOUPLED; argc > 2 && mode <= MOVED; mode++)
		if (!strcmp(argv[1], names[mode]))
			break;
	if (argc < 3 || mode > MOVED) {
		fprintf(stderr, "usage: in-mode undecoupled|decoupled|moved PROGRAM [ARGUMENT...]\n");
		return FAILED;
	}
	device = open("/dev/decouple", O_RDWR | O_CLOEXEC);
	if (device < 0 && mode != UNDECOUPLED)
		fail("/dev/decouple");

	pid = start(argv + 2);
	first = (struct thread){ pid, pid };
	if (mode != UNDECOUPLED && !attach(&first)) {
		kill(pid, SIGKILL);
		fail("DECOUPLE_ATTACH");
	}
	if (ptrace(PTRACE_DETACH, pid, 0, 0))
		fail("PTRACE_DETACH");

	if (mode == UNDECOUPLED && waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	while (mode != UNDECOUPLED && waitpid(pid, &status, WNOHANG) != pid)
		step(pid, mode);

	if (mode != UNDECOUPLED)
		fprintf(stderr, "in-mode: decoupled %ld times, brought back %ld times\n",
			attached, detached);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
