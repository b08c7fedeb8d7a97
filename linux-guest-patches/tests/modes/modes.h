/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs of this folder share. */
#ifndef MODES_H
#define MODES_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int wrong;

/* One line for each promise that was not kept; main() returns `wrong`. */
#define EXPECT(condition, ...)						\
	do {								\
		if (!(condition)) {					\
			printf("%s:%d: ", __func__, __LINE__);		\
			printf(__VA_ARGS__);				\
			printf("\n");					\
			fflush(stdout);					\
			wrong = 1;					\
		}							\
	} while (0)

static inline double seconds_of(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t)) {
		perror("clock_gettime");
		exit(1);
	}
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* The state letter of /proc/PID/stat, and fields behind it (0: state). */
static inline char state_of(pid_t pid, char *rest, size_t size)
{
	char path[64], line[1024], *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file || !fgets(line, sizeof(line), file))
		line[0] = 0;
	if (file)
		fclose(file);
	end = strrchr(line, ')');
	if (!end)
		return '?';
	if (rest)
		snprintf(rest, size, "%s", end + 2);
	return end[2];
}

/* Does the process get into this state, within half a minute? */
static inline bool comes_to_state(pid_t pid, char state)
{
	for (int i = 0; i < 3000; i++) {
		if (state_of(pid, NULL, 0) == state)
			return true;
		usleep(10000);
	}
	return false;
}

#endif
