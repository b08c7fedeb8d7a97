/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An MPI program as a plug-in, loaded late and into its own scope as Python's extension modules are.
 *
 * MPI_THREAD_SINGLE: for more, Open MPI uses CMPXCHG16B without asking whether the processor has it, and the emulated
 * machine on which systems are compared has not.
 */
#include <mpi.h>

int run(void)
{
	int provided, rank, result = MPI_Init_thread(NULL, NULL, MPI_THREAD_SINGLE, &provided);

	if (result != MPI_SUCCESS)
		return result;
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Finalize();
	return rank == 0 ? 42 : -1;
}
