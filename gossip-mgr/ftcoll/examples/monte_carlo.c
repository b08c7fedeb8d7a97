/*
 * π by random points, on ranks of which some die: monte_carlo ROUNDS POINTS [RANK ROUND]...
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   mpirun --enable-recovery -n 8 -x LD_PRELOAD=libftcoll.so ./monte_carlo 200 10000 3 20 5 100
 *
 * Rank 3 kills itself in round 20, rank 5 in round 100. Each round adds the points of those that live; what the dead had
 * contributed stays. The program knows nothing of libftcoll.
 */
#include <math.h>
#include <mpi.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static double unit(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) / 9007199254740992.0;
}

int main(int argc, char **argv)
{
	uint64_t sums[2] = { 0, 0 };
	int rank, size, rounds, points;
	double seed = 0;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	if (argc < 3) {
		fprintf(stderr, "use: monte_carlo ROUNDS POINTS [RANK ROUND]...\n");
		MPI_Abort(MPI_COMM_WORLD, 2);
	}
	rounds = atoi(argv[1]);
	points = atoi(argv[2]);
	if (rank == 0)
		seed = 88172645463325252.0;
	MPI_Bcast(&seed, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
	state = (uint64_t)seed + 7919 * (uint64_t)(rank + 1);
	for (int round = 0; round < rounds; round++) {
		uint64_t round_sums[2] = { 0, (uint64_t)points };

		for (int i = 3; i + 1 < argc; i += 2)
			if (atoi(argv[i]) == rank && atoi(argv[i + 1]) == round)
				raise(SIGKILL);
		for (int i = 0; i < points; i++) {
			double x = unit(), y = unit();

			round_sums[0] += x * x + y * y < 1;
		}
		MPI_Allreduce(MPI_IN_PLACE, round_sums, 2, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
		sums[0] += round_sums[0];
		sums[1] += round_sums[1];
	}
	double pi = 4.0 * (double)sums[0] / (double)sums[1];

	printf("rank %d: pi = %.9f from %llu points, %s\n", rank, pi, (unsigned long long)sums[1],
	       fabs(pi - 3.14159265358979) < 5 * 1.642 / sqrt((double)sums[1]) ? "right" : "WRONG");
	fflush(stdout);
	MPI_Finalize();
	return 0;
}
