/*
 * What a checkpoint costs beside a plain write. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *	overhead MEBIBYTES TIMES FOLDER
 *
 * Each rank writes a file of so many MiB to FOLDER and syncs it, then the same as a checkpoint, and so on. Prints the
 * shortest and the median seconds of the slowest rank: of the plain write, of the program's part of a checkpoint, and of
 * the library's.
 */
#include <fcntl.h>
#include <mpi.h>
#include <scr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void put(const char *path, const char *bytes, size_t count, int is_synced)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	for (size_t done = 0; done < count;) {
		ssize_t now = write(file, bytes + done, count - done);

		if (now <= 0) {
			perror(path);
			MPI_Abort(MPI_COMM_WORLD, 1);
		}
		done += now;
	}
	if (is_synced)
		fsync(file);
	close(file);
}

static double slowest(double begin)
{
	double own = MPI_Wtime() - begin, all;

	MPI_Allreduce(&own, &all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
	return all;
}

int main(int argc, char **argv)
{
	char path[SCR_MAX_FILENAME], name[64];
	double *seconds[3], begin;
	const char *what[3] = {"plain write and fsync", "checkpoint, the program's write", "checkpoint, all the program waits for"};
	int rank, times;
	size_t count;
	char *bytes;

	if (argc != 4) {
		fprintf(stderr, "usage: overhead MEBIBYTES TIMES FOLDER\n");
		return 2;
	}
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	count = (size_t)atoi(argv[1]) << 20;
	times = atoi(argv[2]);
	bytes = malloc(count);
	srand(rank + 1);
	for (size_t at = 0; at < count; at++)
		bytes[at] = rand() >> 7;
	for (int kind = 0; kind < 3; kind++)
		seconds[kind] = calloc(times, sizeof(double));
	if (SCR_Init() != SCR_SUCCESS)
		MPI_Abort(MPI_COMM_WORLD, 3);
	snprintf(name, sizeof name, "state.%d", rank);
	for (int time = 0; time < times; time++) {
		snprintf(path, sizeof path, "%s/plain.%d", argv[3], rank);
		MPI_Barrier(MPI_COMM_WORLD);
		begin = MPI_Wtime();
		put(path, bytes, count, 1);
		seconds[0][time] = slowest(begin);
		unlink(path);
		MPI_Barrier(MPI_COMM_WORLD);
		begin = MPI_Wtime();
		SCR_Start_output(NULL, SCR_FLAG_CHECKPOINT);
		SCR_Route_file(name, path);
		put(path, bytes, count, 0);
		seconds[1][time] = slowest(begin);
		if (SCR_Complete_output(1) != SCR_SUCCESS)
			MPI_Abort(MPI_COMM_WORLD, 4);
		seconds[2][time] = slowest(begin);
	}
	for (int kind = 0; rank == 0 && kind < 3; kind++) {
		qsort(seconds[kind], times, sizeof(double), compare);
		printf("%-40s shortest %.3f s, median %.3f s\n", what[kind], seconds[kind][0], seconds[kind][times / 2]);
	}
	SCR_Finalize();
	MPI_Finalize();
	return 0;
}
