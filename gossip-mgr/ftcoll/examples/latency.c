/*
 * How long collectives take: latency [ROUNDS]. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * With and without LD_PRELOAD=libftcoll.so. Prints the median over rounds of the slowest rank's microseconds.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int less(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "barrier", "bcast", "reduce", "allreduce" };
	static const int sizes[] = { 8, 1024, 65536 };
	int rank, rounds = argc > 1 ? atoi(argv[1]) : 1000;
	static char in[65536], out[65536];
	double *times = calloc(rounds > 0 ? rounds : 1, sizeof *times);

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	for (int what = 0; what < 4; what++)
		for (int s = 0; s < (what == 0 ? 1 : 3); s++) {
			for (int i = -10; i < rounds; i++) {
				int count = sizes[s] / 8;
				double begin;

				PMPI_Barrier(MPI_COMM_WORLD);
				begin = MPI_Wtime();
				if (what == 0)
					MPI_Barrier(MPI_COMM_WORLD);
				else if (what == 1)
					MPI_Bcast(in, count, MPI_DOUBLE, 0, MPI_COMM_WORLD);
				else if (what == 2)
					MPI_Reduce(in, out, count, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
				else
					MPI_Allreduce(in, out, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
				begin = MPI_Wtime() - begin;
				PMPI_Allreduce(MPI_IN_PLACE, &begin, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
				if (i >= 0)
					times[i] = begin * 1e6;
			}
			qsort(times, rounds, sizeof *times, less);
			if (rank == 0)
				printf("%-10s %6d bytes %9.2f us\n", names[what], what ? sizes[s] : 0, times[rounds / 2]);
		}
	fflush(stdout);
	free(times);
	MPI_Finalize();
	return 0;
}
