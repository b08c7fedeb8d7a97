// SPDX-License-Identifier: GPL-2.0
/*
 * A system call that reads memory which has to come from the disk first does
 * not fail because a signal arrives meanwhile.
 */
#include "modes.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#define PAGE	4096ul
#define PAGES	512ul

static volatile sig_atomic_t signals;

static void handler(int sig)
{
	signals++;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	char name[] = "/root/page-in.XXXXXX", page[PAGE];
	int fd = mkstemp(name), fds[2];
	pid_t parent = getpid(), pid;
	unsigned long i, bad = 0, turn;
	char *mem;

	sigaction(SIGUSR1, &sa, NULL);
	EXPECT(fd >= 0 && !pipe(fds), "%s: %s", name, strerror(errno));
	unlink(name);
	for (i = 0; i < PAGES; i++) {
		memset(page, i, PAGE);
		EXPECT(write(fd, page, PAGE) == PAGE, "write: %s", strerror(errno));
	}
	fsync(fd);
	mem = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	/* Page by page: nothing is read ahead. */
	madvise(mem, PAGES * PAGE, MADV_RANDOM);

	pid = fork();
	while (!pid) {
		if (kill(parent, SIGUSR1))
			_exit(0);
		sched_yield();
	}
	/* Until there were signals enough: how many come depends on the disk. */
	for (turn = 0; turn < 3 || (signals <= 100 && turn < 100); turn++) {
		madvise(mem, PAGES * PAGE, MADV_DONTNEED);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		for (i = 0; i < PAGES; i++) {
			if (write(fds[1], mem + i * PAGE, PAGE) != PAGE ||
			    read(fds[0], page, PAGE) != PAGE || page[0] != (char)i)
				bad++;
		}
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EXPECT(!bad, "%lu of %lu transfers failed: %s", bad, turn * PAGES, strerror(errno));
	EXPECT(signals > 100, "%d signals only", signals);
	return wrong;
}
