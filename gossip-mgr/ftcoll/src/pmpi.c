/*
 * The collectives that a program calls, and what they need of MPI. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * MPI's handles differ from one implementation to the next, so they stay on this side. The names that programs call are
 * in exports.rs: what a shared library of Rust exports is written in Rust.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TAG 7
/* Longer values, whose messages MPI could not count, are left to MPI. */
#define LONGEST ((size_t)1 << 30)

/* What is done with a value; see reduce.rs. */
struct call {
	MPI_Datatype datatype;
	MPI_Op op;
	int count;
};

int ftcoll_start(int rank, int size);
int ftcoll_end(void);
int ftcoll_allreduce(void *bytes, size_t length, const struct call *call);
int ftcoll_broadcast(void *bytes, size_t length, int root);
int ftcoll_is_on(void);

static MPI_Comm shadow = MPI_COMM_NULL;

void ftcoll_mpi_all(const void *own, int count, void *all)
{
	PMPI_Allgather(own, count, MPI_BYTE, all, count, MPI_BYTE, shadow);
}

void *ftcoll_mpi_send(const void *bytes, int count, int to)
{
	MPI_Request *request = malloc(sizeof *request);

	if (!request)
		return NULL;
	if (PMPI_Isend(bytes, count, MPI_BYTE, to, TAG, shadow, request) == MPI_SUCCESS)
		return request;
	free(request);
	return NULL;
}

/* Returns whether what was sent may be given back; frees the request then. */
int ftcoll_mpi_sent(void *request)
{
	int is_done = 0;

	/* A failed send is over, too. */
	if (PMPI_Test(request, &is_done, MPI_STATUS_IGNORE) != MPI_SUCCESS)
		is_done = 1;
	if (is_done)
		free(request);
	return is_done;
}

/* The length of a message that has arrived, and from whom; -1 if there is none. */
int ftcoll_mpi_probe(int *from)
{
	int is_there = 0, count = -1;
	MPI_Status status;

	if (PMPI_Iprobe(MPI_ANY_SOURCE, TAG, shadow, &is_there, &status) != MPI_SUCCESS || !is_there)
		return -1;
	PMPI_Get_count(&status, MPI_BYTE, &count);
	*from = status.MPI_SOURCE;
	return count;
}

int ftcoll_mpi_receive(void *bytes, int count, int from)
{
	return PMPI_Recv(bytes, count, MPI_BYTE, from, TAG, shadow, MPI_STATUS_IGNORE) == MPI_SUCCESS;
}

void ftcoll_mpi_combine(const void *other, void *value, const struct call *call)
{
	PMPI_Reduce_local(other, value, call->count, call->datatype, call->op);
}

static int start(void)
{
	int rank, size;

	if (PMPI_Comm_dup(MPI_COMM_WORLD, &shadow) != MPI_SUCCESS)
		return MPI_ERR_OTHER;
	/* A dead receiver is no reason to end. */
	PMPI_Comm_set_errhandler(shadow, MPI_ERRORS_RETURN);
	PMPI_Comm_rank(shadow, &rank);
	PMPI_Comm_size(shadow, &size);
	return ftcoll_start(rank, size) ? MPI_SUCCESS : MPI_ERR_OTHER;
}

int ftcoll_as_MPI_Init(int *argc, char ***argv)
{
	int error = PMPI_Init(argc, argv);

	return error == MPI_SUCCESS ? start() : error;
}

int ftcoll_as_MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
	int error = PMPI_Init_thread(argc, argv, required, provided);

	return error == MPI_SUCCESS ? start() : error;
}

int ftcoll_as_MPI_Finalize(void)
{
	/* MPI would wait for the dead for ever; the process ends, and with it all that MPI has. */
	return ftcoll_end() ? PMPI_Finalize() : MPI_SUCCESS;
}

/* Whether values are bytes one after the other; then their length. */
static int is_plain(MPI_Comm comm, int count, MPI_Datatype datatype, size_t *length)
{
	MPI_Aint low, extent;
	int size;

	if (comm != MPI_COMM_WORLD || !ftcoll_is_on() || count < 0)
		return 0;
	PMPI_Type_size(datatype, &size);
	PMPI_Type_get_extent(datatype, &low, &extent);
	*length = (size_t)count * (size_t)size;
	return low == 0 && extent == size && *length <= LONGEST;
}

static int may_change_order(MPI_Op op)
{
	int is_commutative = 0;

	return PMPI_Op_commutative(op, &is_commutative) == MPI_SUCCESS && is_commutative;
}

static int failed(int status)
{
	if (!status)
		return MPI_SUCCESS;
	PMPI_Comm_call_errhandler(MPI_COMM_WORLD, MPI_ERR_OTHER);
	return MPI_ERR_OTHER;
}

int ftcoll_as_MPI_Bcast(void *buffer, int count, MPI_Datatype datatype, int root, MPI_Comm comm)
{
	size_t length;

	if (!is_plain(comm, count, datatype, &length))
		return PMPI_Bcast(buffer, count, datatype, root, comm);
	return failed(ftcoll_broadcast(buffer, length, root));
}

int ftcoll_as_MPI_Allreduce(const void *from, void *to, int count, MPI_Datatype datatype, MPI_Op op, MPI_Comm comm)
{
	struct call call = { datatype, op, count };
	size_t length;

	if (!is_plain(comm, count, datatype, &length) || !may_change_order(op))
		return PMPI_Allreduce(from, to, count, datatype, op, comm);
	if (from != MPI_IN_PLACE)
		memcpy(to, from, length);
	return failed(ftcoll_allreduce(to, length, &call));
}

int ftcoll_as_MPI_Reduce(const void *from, void *to, int count, MPI_Datatype datatype, MPI_Op op, int root, MPI_Comm comm)
{
	struct call call = { datatype, op, count };
	size_t length;
	void *value;
	int rank, status;

	if (!is_plain(comm, count, datatype, &length) || !may_change_order(op))
		return PMPI_Reduce(from, to, count, datatype, op, root, comm);
	PMPI_Comm_rank(comm, &rank);
	value = malloc(length ? length : 1);
	if (!value)
		return failed(1);
	memcpy(value, from == MPI_IN_PLACE ? to : from, length);
	status = ftcoll_allreduce(value, length, &call);
	if (!status && rank == root)
		memcpy(to, value, length);
	free(value);
	return failed(status);
}

int ftcoll_as_MPI_Barrier(MPI_Comm comm)
{
	struct call call = { MPI_BYTE, MPI_BOR, 0 };
	size_t length;

	if (!is_plain(comm, 0, MPI_BYTE, &length))
		return PMPI_Barrier(comm);
	return failed(ftcoll_allreduce(&call, 0, &call));
}
