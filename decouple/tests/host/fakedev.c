/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stands for /dev/decouple and /sys/kernel/decouple in tests on any Linux: preloaded into every process of a test, it
 * leads both to the folder FAKE_DECOUPLE and follows the driver's rules there. Nothing really is decoupled.
 *
 * FAKE_DECOUPLE/dev is the device, FAKE_DECOUPLE/sys the tree. Core 0 is Linux's. The identity of an open file is its
 * offset, which belongs to the open file description just as a reservation does.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "decouple.h"

#define DEVICE "/dev/decouple"
#define TREE "/sys/kernel/decouple"
#define CORES 64

static const char *folder(void)
{
	return getenv("FAKE_DECOUPLE");
}

static int real_open(const char *path, int flags, int mode)
{
	return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static void put(int core, const char *name, const char *format, ...)
{
	char path[512], text[64];
	va_list values;
	int fd, length;

	va_start(values, format);
	length = vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	snprintf(path, sizeof(path), "%s/sys/core%d/%s", folder(), core, name);
	fd = real_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, length) != length)
		abort();
	close(fd);
}

static long get(int core, const char *name)
{
	char path[512], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/sys/core%d/%s", folder(), core, name);
	fd = real_open(path, O_RDONLY, 0);
	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) < 0)
			abort();
		close(fd);
	}
	return atol(text);
}

static int exists(int core)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/sys/core%d", folder(), core);
	return core >= 0 && core < CORES && access(path, F_OK) == 0;
}

/* A process that waits to be reaped has given its core back. */
static int alive(int pid)
{
	char path[64], line[256] = "", *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = real_open(path, O_RDONLY, 0);
	if (fd < 0)
		return 0;
	if (read(fd, line, sizeof(line) - 1) < 0)
		line[0] = 0;
	close(fd);
	state = strrchr(line, ')');
	return state && state[2] != 'Z' && state[2] != 'X';
}

static void show_state(int core)
{
	put(core, "state", "%s\n", get(core, "tid") ? "running" : get(core, "reserved_by") ? "reserved" : "idle");
}

static void leave(int core)
{
	put(core, "pid", "0\n");
	put(core, "tid", "0\n");
	put(core, "comm", "\n");
	show_state(core);
}

/* Gives back what dead processes left behind. */
static void reap(void)
{
	int core;

	for (core = 1; core < CORES; core++) {
		if (!exists(core))
			continue;
		if (get(core, "tid") && !alive(get(core, "pid")))
			leave(core);
		if (get(core, "reserved_by") && !alive(get(core, "reserved_by"))) {
			put(core, "reserved_by", "0\n");
			put(core, "file", "0\n");
			show_state(core);
		}
	}
}

static int fail(int number)
{
	errno = number;
	return -1;
}

static int find(int pid, int tid, int *found_pid, int *found_tid)
{
	struct stat thread;
	char path[64];

	*found_pid = pid ? pid : getpid();
	*found_tid = tid ? tid : pid ? pid : (int)syscall(SYS_gettid);
	snprintf(path, sizeof(path), "/proc/%d/task/%d", *found_pid, *found_tid);
	if (stat(path, &thread) != 0 || !alive(*found_pid))
		return ESRCH;
	return geteuid() == 0 || geteuid() == thread.st_uid ? 0 : EPERM;
}

static int core_of(int tid)
{
	int core;

	for (core = 1; core < CORES; core++)
		if (exists(core) && get(core, "tid") == tid)
			return core;
	return 0;
}

static int busy(int core, long file)
{
	return get(core, "tid") || (get(core, "reserved_by") && get(core, "file") != file);
}

static int attach(struct decouple_attach *request, long file)
{
	int pid, tid, core = request->core, fd, length, error = find(request->pid, request->tid, &pid, &tid);
	char path[64], comm[32] = "";

	if (error)
		return error;
	if (core == 0)
		return EINVAL;
	if (!exists(core))
		return ENODEV;
	if (core_of(tid))
		return EALREADY;
	if (busy(core, file))
		return EBUSY;
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = real_open(path, O_RDONLY, 0);
	length = fd < 0 ? 0 : read(fd, comm, sizeof(comm) - 1);
	close(fd);
	if (length < 0)
		abort();
	put(core, "pid", "%d\n", pid);
	put(core, "tid", "%d\n", tid);
	put(core, "comm", "%s", comm);
	show_state(core);
	return 0;
}

static int detach(struct decouple_detach *request)
{
	int pid, tid, error = find(request->pid, request->tid, &pid, &tid);

	if (error)
		return error;
	if (!core_of(tid))
		return ENOENT;
	leave(core_of(tid));
	return 0;
}

static int reserve(struct decouple_reserve *request, int fd)
{
	long file = lseek(fd, 0, SEEK_CUR);
	int core;

	for (core = 0; core < CORES; core++)
		if (request->cores[0] >> core & 1 && busy(core, file))
			return EBUSY;
	/* Any number that no other open file has. */
	if (!file)
		file = lseek(fd, getpid() * 64L + fd + 1, SEEK_SET);
	for (core = 0; core < CORES; core++) {
		if (request->cores[0] >> core & 1) {
			put(core, "file", "%ld\n", file);
			put(core, "reserved_by", "%d\n", getpid());
			show_state(core);
		}
	}
	return 0;
}

static int release(struct decouple_reserve *request, long file)
{
	int core;

	for (core = 0; core < CORES; core++) {
		if (request->cores[0] >> core & 1 && get(core, "file") == file) {
			put(core, "file", "0\n");
			put(core, "reserved_by", "0\n");
			show_state(core);
		}
	}
	return 0;
}

static int request(int fd, unsigned long number, void *argument)
{
	struct decouple_version *version = argument;

	reap();
	switch (number) {
	case DECOUPLE_ATTACH:
		return attach(argument, lseek(fd, 0, SEEK_CUR));
	case DECOUPLE_DETACH:
		return detach(argument);
	case DECOUPLE_RESERVE:
		return reserve(argument, fd);
	case DECOUPLE_RELEASE:
		return release(argument, lseek(fd, 0, SEEK_CUR));
	case DECOUPLE_VERSION:
		version->abi = DECOUPLE_ABI;
		return 0;
	}
	return ENOTTY;
}

/* One at a time, as under the driver's lock. */
static int locked_request(int fd, unsigned long number, void *argument)
{
	char path[512];
	int lock, error;

	snprintf(path, sizeof(path), "%s/lock", folder());
	lock = real_open(path, O_RDWR | O_CREAT, 0644);
	flock(lock, LOCK_EX);
	error = request(fd, number, argument);
	close(lock);
	return error ? fail(error) : 0;
}

int ioctl(int fd, unsigned long number, ...)
{
	struct stat device, file;
	char path[512];
	va_list values;
	void *argument;

	va_start(values, number);
	argument = va_arg(values, void *);
	va_end(values);
	snprintf(path, sizeof(path), "%s/dev", folder());
	if (stat(path, &device) == 0 && fstat(fd, &file) == 0 && file.st_ino == device.st_ino &&
	    file.st_dev == device.st_dev)
		return locked_request(fd, number, argument);
	return syscall(SYS_ioctl, fd, number, argument);
}

static int led_open(const char *path, int flags, int mode)
{
	char led[512];

	if (strcmp(path, DEVICE) == 0)
		snprintf(led, sizeof(led), "%s/dev", folder());
	else if (strncmp(path, TREE, strlen(TREE)) == 0)
		snprintf(led, sizeof(led), "%s/sys%s", folder(), path + strlen(TREE));
	else
		return real_open(path, flags, mode);
	reap();
	return real_open(led, flags, mode);
}

#define OPEN(name)					\
	int name(const char *path, int flags, ...)	\
	{						\
		va_list values;				\
		int mode;				\
							\
		va_start(values, flags);		\
		mode = va_arg(values, int);		\
		va_end(values);				\
		return led_open(path, flags, mode);	\
	}

OPEN(open)
OPEN(open64)

ssize_t readlink(const char *path, char *target, size_t size)
{
	ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, path, target, size);
	char device[512];

	snprintf(device, sizeof(device), "%s/dev", folder());
	if (length != (ssize_t)strlen(device) || memcmp(target, device, length) != 0)
		return length;
	memcpy(target, DEVICE, strlen(DEVICE));
	return strlen(DEVICE);
}
