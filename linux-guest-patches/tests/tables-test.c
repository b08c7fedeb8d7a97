// SPDX-License-Identifier: GPL-2.0
/*
 * The microkernel's page tables are a cache: programs that need more of them
 * than there is memory for are slow, and nothing else. Prints TAP; exits with
 * the number of failures (at most 100). Runs as root on Tacet, at 1 GiB, and
 * once more with its first thread decoupled (`decouple tables-test`).
 *
 *   tables-test          one program at a time
 *   tables-test crowd    64 programs of another user at once, beside root's
 *
 * cc -static -O2 -pthread -I../files/include/uapi -o tables-test tables-test.c
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/decouple.h>

#define PAGE	4096ul
/* What one page table spans. */
#define REGION	(2ul << 20)
#define NOBODY	65534

static int tests, failures;

static void check(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, what);
	fflush(stdout);
	failures += !good;
}

/* The number behind @key in a file; without a key, the file's first. */
static long number_in(const char *path, const char *key)
{
	char line[256];
	long value = -1;
	FILE *file = fopen(path, "re");

	while (file && value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			value = atol(line + strlen(key));
	if (file)
		fclose(file);
	return value;
}

static long pool(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/page_tables/%s", name);
	return number_in(path, "");
}

static char *map_at(void *where, size_t bytes, int prot, int flags)
{
	char *p = mmap(where, bytes, prot, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		printf("# mmap of %zu bytes: %s\n", bytes, strerror(errno));
		exit(101);
	}
	return p;
}

/* Reads a byte of each region: a page table each, and no memory of its own. */
static bool read_zeros(const volatile char *p, long regions)
{
	long i, sum = 0;

	for (i = 0; i < regions; i++)
		sum += p[i * REGION];
	return !sum;
}

static bool ends_well(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return false;
	if (status)
		printf("# a child ended with status %#x\n", status);
	return !status;
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		_exit(102);
}

/* Counts what one more table costs, and needs more than there can be. */
static void test_sparse(void)
{
	long regions = pool("pool_kb") / 4 * 2, dropped, process, machine;
	char *p = map_at(NULL, regions * REGION, PROT_READ, MAP_PRIVATE);

	process = number_in("/proc/self/status", "VmPTE:");
	machine = number_in("/proc/meminfo", "PageTables:");
	read_zeros(p, 1000);
	process = number_in("/proc/self/status", "VmPTE:") - process;
	machine = number_in("/proc/meminfo", "PageTables:") - machine;
	check(process >= 2 * 4000 && process < 2 * 4000 + 200,
	      "VmPTE counts Linux's tables and the microkernel's");
	check(machine > 2 * 4000 - 800 && machine < 2 * 4000 + 800,
	      "so does PageTables of /proc/meminfo");

	dropped = pool("dropped");
	check(read_zeros(p, regions), "a program may need twice the tables that there are");
	check(pool("dropped") > dropped, "tables were dropped for it");
	process = number_in("/proc/self/status", "VmPTE:");
	munmap(p, regions * REGION);
	process -= number_in("/proc/self/status", "VmPTE:");
	check(process >= regions * 4, "munmap gives them back");
}

/* One page in use at any time, and one that stays in each GiB. */
static void test_unmap(bool stays)
{
	long before, i;

	before = pool("free_kb");
	for (i = 0; i < 1000; i++) {
		char *where = (char *)0x100000000000 + i * REGION;
		int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_FIXED;

		if (stays && i % 512 == 0)
			*map_at(where + PAGE, PAGE, prot, flags) = 1;
		*map_at(where, PAGE, prot, flags) = 1;
		munmap(where, PAGE);
	}
	check(before - pool("free_kb") < 1000,
	      stays ? "munmap of a page gives its table back" :
		      "munmap of a page gives its tables of all levels back");
	munmap((char *)0x100000000000, 1000 * REGION);
}

static void test_many_processes(void)
{
	enum { COUNT = 1000 };
	static pid_t pids[COUNT];
	long dropped = pool("dropped");
	int i, status, made = 0, good = 0;

	for (i = 0; i < COUNT; i++) {
		pids[i] = fork();
		if (!pids[i])
			for (;;)
				pause();
		made += pids[i] > 0;
	}
	check(made == COUNT, "a thousand processes can be made");
	for (i = 0; i < COUNT; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGUSR1);
	for (i = 0; i < COUNT; i++)
		good += pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i] &&
			WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1;
	check(good == COUNT, "and none ends but by the signal that it is sent");
	check(pool("dropped") > dropped, "they are more than there are tables for");
}

/* Everybody writes a byte of its own into each region, and reads all others'. */
static void test_shared_memory(void)
{
	enum { COUNT = 80, REGIONS = 128 };
	volatile char *p = map_at(NULL, REGIONS * REGION, PROT_READ | PROT_WRITE, MAP_SHARED);
	int i, j, k, good = 0, all_there[2], read_on[2];
	pid_t pids[COUNT];
	char byte;

	if (pipe(all_there) || pipe(read_on))
		exit(103);
	for (i = 0; i < COUNT; i++) {
		pids[i] = fork();
		if (pids[i])
			continue;
		close(read_on[1]);
		for (j = 0; j < REGIONS; j++)
			p[j * REGION + i] = i + 1;
		if (write(all_there[1], "", 1) != 1 || read(read_on[0], &byte, 1))
			_exit(1);
		for (j = 0; j < REGIONS; j++)
			for (k = 0; k < COUNT; k++)
				if (p[j * REGION + k] != k + 1)
					_exit(2);
		_exit(0);
	}
	close(all_there[1]);
	for (i = 0; i < COUNT && read(all_there[0], &byte, 1) == 1; i++)
		;
	close(read_on[1]);
	for (i = 0; i < COUNT; i++)
		good += pids[i] > 0 && ends_well(pids[i]);
	check(good == COUNT, "eighty processes share 256 MiB and see the same");
	close(all_there[0]);
	close(read_on[0]);
	munmap((void *)p, REGIONS * REGION);
}

/* The files of /proc keep the mm_struct, and must not keep the Task. */
static void test_dead_spaces(void)
{
	enum { COUNT = 300 };
	static int files[COUNT];
	long before = pool("free_kb"), after;
	int i;

	for (i = 0; i < COUNT; i++) {
		char path[64];
		pid_t pid = fork();

		if (!pid)
			for (;;)
				pause();
		snprintf(path, sizeof(path), "/proc/%d/mem", pid);
		files[i] = open(path, O_RDONLY | O_CLOEXEC);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	after = pool("free_kb");
	check(files[COUNT - 1] >= 0 && before - after < COUNT * 2,
	      "an address space of which only a file in /proc is left costs no table");
	for (i = 0; i < COUNT; i++)
		close(files[i]);
}

/* Uses up the pool for as long as it lives. */
static pid_t start_hog(uid_t user)
{
	long regions = pool("pool_kb") / 4 * 3 / 4;
	pid_t pid = fork();

	if (!pid) {
		char *p = map_at(NULL, regions * REGION, PROT_READ, MAP_PRIVATE);

		if (user)
			become_nobody();
		while (read_zeros(p, regions))
			usleep(1000);
		_exit(1);
	}
	return pid;
}

/* Does little, as daemons do, until *@stop. */
static pid_t start_daemon(volatile bool *stop)
{
	pid_t pid = fork();

	if (!pid) {
		volatile char *p = map_at(NULL, 30 * REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		int i, round = 0;

		while (!*stop || round < 2) {
			for (i = 0; i < 30; i++)
				if (p[i * REGION]++ != (char)round)
					_exit(1);
			round++;
			usleep(20000);
		}
		_exit(0);
	}
	return pid;
}

/* A fork, a shell and a program; exec needs an address space more. */
static bool runs_programs(int count)
{
	bool good = true;

	while (count--) {
		pid_t pid = fork();

		if (!pid) {
			execl("/bin/sh", "sh", "-c", "/bin/true && /bin/true", NULL);
			_exit(127);
		}
		good &= pid > 0 && ends_well(pid);
	}
	return good;
}

static void test_others_live(void)
{
	pid_t hogs[4], daemon;
	volatile bool *stop = (void *)map_at(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	bool alive = true;
	int i, status;
	long dropped;

	daemon = start_daemon(stop);
	for (i = 0; i < 4; i++)
		hogs[i] = start_hog(NOBODY);
	dropped = pool("dropped");
	for (i = 0; i < 600 && pool("dropped") < dropped + 8; i++)
		usleep(100000);
	check(runs_programs(20), "programs run while another user uses up the tables");
	*stop = true;
	check(ends_well(daemon), "and so does one that was there before");
	for (i = 0; i < 4; i++) {
		alive &= !kill(hogs[i], SIGKILL) && waitpid(hogs[i], &status, 0) == hogs[i] &&
			 WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	}
	check(alive, "and those who use them up, too");
	munmap((void *)stop, PAGE);
}

static long core_faults(int core)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/decouple/core%d/faults", core);
	return number_in(path, "");
}

/* The tables of a decoupled thread stay, whatever others need. */
static void test_silence(void)
{
	volatile long *rounds = (void *)map_at(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct decouple_attach attach = { .core = -1 };
	int i, fd = open("/dev/decouple", O_RDWR | O_CLOEXEC);
	long dropped, faults, seen;
	pid_t pid, hogs[2];

	pid = fork();
	if (!pid) {
		volatile char *p = map_at(NULL, 100 * REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE);

		for (;; ++*rounds)
			for (i = 0; i < 100; i++)
				p[i * REGION]++;
	}
	attach.pid = attach.tid = pid;
	if (ioctl(fd, DECOUPLE_ATTACH, &attach)) {
		check(false, "a thread can be decoupled");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return;
	}
	for (i = 0; i < 2; i++)
		hogs[i] = start_hog(0);
	for (i = 0, seen = *rounds; i < 600 && *rounds < seen + 10; i++)
		usleep(100000);
	faults = core_faults(attach.core);
	dropped = pool("dropped");
	for (i = 0; i < 600 && pool("dropped") < dropped + 16; i++)
		usleep(100000);
	for (i = 0, seen = *rounds; i < 600 && *rounds < seen + 10; i++)
		usleep(100000);
	check(pool("dropped") >= dropped + 16 && *rounds >= seen + 10 &&
	      core_faults(attach.core) == faults,
	      "a decoupled thread keeps its tables while others lose theirs");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (i = 0; i < 2; i++) {
		kill(hogs[i], SIGKILL);
		waitpid(hogs[i], NULL, 0);
	}
	close(fd);
	munmap((void *)rounds, PAGE);
}

/* Processes of root that are there, as "PID PID ..."; kernel threads, too. */
static int roots_processes(pid_t *pids, int most)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	struct stat stat;
	int count = 0;

	while (dir && (entry = readdir(dir)) && count < most)
		if (atoi(entry->d_name) &&
		    !fstatat(dirfd(dir), entry->d_name, &stat, 0) && !stat.st_uid)
			pids[count++] = atoi(entry->d_name);
	if (dir)
		closedir(dir);
	return count;
}

/* What one of the crowd does; true if all is as it should be. */
static bool crowd_member(long regions)
{
	char *p = map_at(NULL, regions * REGION, PROT_READ, MAP_PRIVATE);
	bool good = read_zeros(p, regions);
	int i;

	for (i = 0; i < 200; i++) {
		char *where = (char *)0x100000000000 + i * REGION;

		where = map_at(where, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED);
		good &= !*where;
		*where = 1;
		munmap(where, PAGE);
	}
	for (i = 0; i < 4; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(!read_zeros(p, 20));
		good &= pid > 0 && ends_well(pid);
	}
	return good && read_zeros(p, regions);
}

static void test_crowd(void)
{
	enum { COUNT = 64, REGIONS = 1200 };
	static pid_t roots[4096], pids[COUNT];
	volatile bool *stop = (void *)map_at(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	int i, there, good = 0, gone = 0;
	long dropped = pool("dropped"), tables, most = 0;
	pid_t daemon = start_daemon(stop);

	there = roots_processes(roots, 4096);
	for (i = 0; i < COUNT; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			become_nobody();
			_exit(!crowd_member(REGIONS));
		}
	}
	for (i = 0; i < 20; i++) {
		tables = number_in("/proc/meminfo", "PageTables:");
		most = tables > most ? tables : most;
		if (!runs_programs(1))
			break;
	}
	check(i == 20, "root's programs run beside 64 of nobody's");
	for (i = 0; i < COUNT; i++)
		good += pids[i] > 0 && ends_well(pids[i]);
	check(good == COUNT, "nobody's programs all end well");
	check(pool("dropped") > dropped, "they needed more tables than there are");
	printf("# at most %ld kB in page tables\n", most);
	check(most < pool("pool_kb") + COUNT * (REGIONS + 300) * 4,
	      "the tables stay within Linux's own and the pool");
	*stop = true;
	check(ends_well(daemon), "a process of root's that was there lives");
	for (i = 0; i < there; i++)
		if (roots[i] != daemon && kill(roots[i], 0)) {
			printf("# process %d is gone\n", roots[i]);
			gone++;
		}
	check(there > 2 && !gone, "and all other processes of root's");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "crowd")) {
		test_crowd();
	} else {
		test_sparse();
		test_unmap(false);
		test_unmap(true);
		test_many_processes();
		test_shared_memory();
		test_dead_spaces();
		test_others_live();
		test_silence();
	}
	printf("1..%d\n", tests);
	return failures < 100 ? failures : 100;
}
