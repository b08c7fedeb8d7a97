/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An MPI program that says whether its main thread is decoupled, before and after MPI_Init:
 * `rank R of N: before 0 after CORE sum N`. The kernel's own word is asked: sysfs.
 */
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The core that this process's main thread is on, or 0. */
static int own_core(void)
{
	char path[64], text[32];
	int core, fd;
	ssize_t length;

	for (core = 1; core < 64; core++) {
		snprintf(path, sizeof(path), "/sys/kernel/decouple/core%d/tid", core);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		length = read(fd, text, sizeof(text) - 1);
		close(fd);
		text[length > 0 ? length : 0] = 0;
		if (atoi(text) == getpid())
			return core;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int before = own_core(), after, rank, size, i, sum = 0, one = 1;

	if (MPI_Init(&argc, &argv) != MPI_SUCCESS)
		return 2;
	after = own_core();
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	for (i = 0; i < 100; i++)
		MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	printf("rank %d of %d: before %d after %d sum %d\n", rank, size, before, after, sum);
	fflush(stdout);
	MPI_Finalize();
	return argc > 1 ? atoi(argv[1]) : 0;
}
