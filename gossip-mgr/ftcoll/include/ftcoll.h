/*
 * Fault-tolerant collectives. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A program needs none of this: with LD_PRELOAD=libftcoll.so its MPI_Bcast, MPI_Reduce, MPI_Allreduce and MPI_Barrier on
 * MPI_COMM_WORLD go on when ranks die. One that wants to know who takes part asks here.
 */
#ifndef FTCOLL_H
#define FTCOLL_H

#ifdef __cplusplus
extern "C" {
#endif

/* How many ranks took part in the last MPI_Reduce, MPI_Allreduce or MPI_Barrier; the same on all that live. */
int ftcoll_contributors(void);

/* Whether a rank took part in it. */
int ftcoll_contributed(int rank);

#ifdef __cplusplus
}
#endif
#endif
