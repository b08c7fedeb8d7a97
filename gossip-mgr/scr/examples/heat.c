/*
 * A heat equation on a plate that survives failures. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *	heat STEPS SIZE MICROSECONDS OUTPUT
 *
 * Rows are divided among the ranks. After STEPS steps, each with a pause, rank 0 writes the plate to OUTPUT. A program for
 * SCR as any: it asks in each step, writes where SCR_Route_file says, and goes on from what SCR_Have_restart offers.
 */
#include <mpi.h>
#include <scr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, ranks, size, rows;

/* Writes or reads the state of this rank; whether it went well. */
static int transfer(int is_writing, int *step, double *plate)
{
	char name[SCR_MAX_FILENAME], path[SCR_MAX_FILENAME];
	size_t count = (size_t)(rows + 2) * size;
	FILE *file;
	int fine;

	snprintf(name, sizeof name, "heat.%d", rank);
	if (SCR_Route_file(name, path) != SCR_SUCCESS)
		return 0;
	file = fopen(path, is_writing ? "wb" : "rb");
	if (!file)
		return 0;
	if (is_writing)
		fine = fwrite(step, sizeof *step, 1, file) == 1 && fwrite(plate, sizeof *plate, count, file) == count;
	else
		fine = fread(step, sizeof *step, 1, file) == 1 && fread(plate, sizeof *plate, count, file) == count;
	return fclose(file) == 0 && fine;
}

static int restart(double *plate)
{
	int step = 0, is_there;

	while (SCR_Have_restart(&is_there, NULL) == SCR_SUCCESS && is_there) {
		SCR_Start_restart(NULL);
		if (SCR_Complete_restart(transfer(0, &step, plate)) == SCR_SUCCESS) {
			if (rank == 0)
				fprintf(stderr, "heat: restarts at step %d\n", step);
			return step;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	int steps, pause, flag, up, down;
	double *plate, *next, *whole = NULL;
	size_t count;

	if (argc != 5) {
		fprintf(stderr, "usage: heat STEPS SIZE MICROSECONDS OUTPUT\n");
		return 2;
	}
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	steps = atoi(argv[1]);
	size = atoi(argv[2]);
	pause = atoi(argv[3]);
	rows = size / ranks;
	if (rows < 1 || size % ranks) {
		fprintf(stderr, "heat: SIZE is a multiple of the number of ranks\n");
		MPI_Abort(MPI_COMM_WORLD, 2);
	}
	count = (size_t)(rows + 2) * size;
	plate = calloc(count, sizeof *plate);
	next = calloc(count, sizeof *next);
	for (int row = 1; row <= rows; row++)
		for (int column = 0; column < size; column++)
			plate[row * size + column] = ((rank * rows + row) * 31 + column * 17) % 101;
	if (SCR_Init() != SCR_SUCCESS)
		MPI_Abort(MPI_COMM_WORLD, 3);
	up = rank > 0 ? rank - 1 : MPI_PROC_NULL;
	down = rank + 1 < ranks ? rank + 1 : MPI_PROC_NULL;
	for (int step = restart(plate); step < steps;) {
		MPI_Sendrecv(plate + size, size, MPI_DOUBLE, up, 0, plate + (rows + 1) * size, size, MPI_DOUBLE, down, 0,
			     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		MPI_Sendrecv(plate + rows * size, size, MPI_DOUBLE, down, 1, plate, size, MPI_DOUBLE, up, 1,
			     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		for (int row = 1; row <= rows; row++)
			for (int column = 0; column < size; column++) {
				int at = row * size + column;
				double left = column ? plate[at - 1] : 0, right = column + 1 < size ? plate[at + 1] : 0;

				next[at] = plate[at] + 0.2 * (left + right + plate[at - size] + plate[at + size] - 4 * plate[at]);
			}
		memcpy(plate + size, next + size, (size_t)rows * size * sizeof *plate);
		step++;
		if (pause)
			usleep(pause);
		if (SCR_Need_checkpoint(&flag) == SCR_SUCCESS && flag) {
			SCR_Start_output(NULL, SCR_FLAG_CHECKPOINT);
			SCR_Complete_output(transfer(1, &step, plate));
		}
		if (SCR_Should_exit(&flag) == SCR_SUCCESS && flag) {
			if (rank == 0)
				fprintf(stderr, "heat: makes way at step %d\n", step);
			SCR_Finalize();
			MPI_Finalize();
			return 0;
		}
	}
	if (rank == 0)
		whole = malloc((size_t)size * size * sizeof *whole);
	MPI_Gather(plate + size, rows * size, MPI_DOUBLE, whole, rows * size, MPI_DOUBLE, 0, MPI_COMM_WORLD);
	if (rank == 0) {
		FILE *file = fopen(argv[4], "wb");

		if (!file || fwrite(whole, sizeof *whole, (size_t)size * size, file) != (size_t)size * size || fclose(file))
			MPI_Abort(MPI_COMM_WORLD, 4);
	}
	SCR_Finalize();
	MPI_Finalize();
	return 0;
}
