/*
 * What libscr needs of MPI. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * MPI's handles differ from one implementation to the next, so they stay on this side.
 */
#include <mpi.h>
#include <stdint.h>

static MPI_Comm world = MPI_COMM_NULL;

/* Returns whether MPI runs. */
int gossip_mpi_start(void)
{
	int is_started = 0, is_ended = 0;

	MPI_Initialized(&is_started);
	MPI_Finalized(&is_ended);
	if (!is_started || is_ended)
		return 0;
	/* The program's own messages must not meet ours. */
	if (world == MPI_COMM_NULL)
		MPI_Comm_dup(MPI_COMM_WORLD, &world);
	return 1;
}

void gossip_mpi_end(void)
{
	if (world != MPI_COMM_NULL)
		MPI_Comm_free(&world);
}

int gossip_mpi_rank(void)
{
	int rank;

	MPI_Comm_rank(world, &rank);
	return rank;
}

int gossip_mpi_size(void)
{
	int size;

	MPI_Comm_size(world, &size);
	return size;
}

void gossip_mpi_broadcast(void *bytes, int count)
{
	MPI_Bcast(bytes, count, MPI_BYTE, 0, world);
}

void gossip_mpi_all_lengths(int own, int *all)
{
	MPI_Allgather(&own, 1, MPI_INT, all, 1, MPI_INT, world);
}

void gossip_mpi_all_bytes(const void *own, int count, void *all, const int *counts, const int *offsets)
{
	MPI_Allgatherv(own, count, MPI_BYTE, all, counts, offsets, MPI_BYTE, world);
}

void gossip_mpi_max(uint64_t *values, int count)
{
	MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_UINT64_T, MPI_MAX, world);
}
