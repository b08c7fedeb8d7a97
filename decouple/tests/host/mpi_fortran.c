/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls MPI as a Fortran compiler's code does: mpi_fortran mpi_init_|mpi_init_thread_ */
#include <stdio.h>
#include <string.h>

void mpi_init_(int *error);
void mpi_init_thread_(int *required, int *provided, int *error);
void mpi_comm_size_(int *communicator, int *size, int *error);
void mpi_finalize_(int *error);

int main(int argc, char **argv)
{
	int error = 1, size = 0, single = 0, provided, world = 0;

	if (argc > 1 && strcmp(argv[1], "mpi_init_thread_") == 0)
		mpi_init_thread_(&single, &provided, &error);
	else
		mpi_init_(&error);
	if (error)
		return error;
	mpi_comm_size_(&world, &size, &error);
	printf("size %d\n", size);
	fflush(stdout);
	mpi_finalize_(&error);
	return error;
}
