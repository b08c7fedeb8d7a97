/*
 * The partitioners that `gossip-mgr simulate shock` compares diffusion with, behind a pipe.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Standard input: struct header, offsets (tasks + 1), neighbours, coordinates (3 a task), all int32;
 * then requests, each: a method, the task weights and the current owners. Standard output: for each
 * request the seconds of processor time that the library took, as a double, and the new owners. Any
 * failure ends the program with a message on standard error. One process, one core, all parts, as
 * for the method that they are compared with.
 *
 * PT-Scotch is MPI all through: `mpirun -n N opponents REQUEST ANSWER` runs it once. The file REQUEST holds
 * the header, offsets, neighbours and weights, and the file ANSWER gets the seconds of all processes together
 * and the owners.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <metis.h>
#include <ptscotch.h>
#include <zoltan.h>

/* The values of `Method` in opponents.rs; PT-Scotch has none. */
enum method { METIS_SCRATCH, SCOTCH_SCRATCH, SCOTCH_REMAP, ZOLTAN_RCB, ZOLTAN_REPARTITION, ZOLTAN_REFINE };

struct header {
	int32_t tasks;
	int32_t edges;
	int32_t parts;
	int32_t tolerance_ppm;
};

static struct header header;
static int32_t *offsets, *neighbours, *coordinates, *weights, *owners;

static void fail(const char *what)
{
	fprintf(stderr, "opponents: %s\n", what);
	exit(1);
}

static int32_t *array(size_t length)
{
	int32_t *values = malloc((length + 1) * sizeof *values);

	if (!values)
		fail("out of memory");
	return values;
}

static int read_all(FILE *from, void *to, size_t size)
{
	return fread(to, 1, size, from) == size;
}

static int write_answer(FILE *to, double seconds)
{
	return fwrite(&seconds, sizeof seconds, 1, to) == 1 &&
	       fwrite(owners, sizeof *owners, header.tasks, to) == (size_t)header.tasks && fflush(to) == 0;
}

static void read_graph(FILE *from)
{
	if (!read_all(from, &header, sizeof header))
		fail("no header");
	offsets = array(header.tasks + 1);
	neighbours = array(header.edges);
	coordinates = array(3 * (size_t)header.tasks);
	weights = array(header.tasks);
	owners = array(header.tasks);
	if (!read_all(from, offsets, (header.tasks + 1) * sizeof *offsets) ||
	    !read_all(from, neighbours, header.edges * sizeof *neighbours))
		fail("the graph is cut short");
}

static double processor_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec + 1e-9 * now.tv_nsec;
}

static double tolerance(void)
{
	return header.tolerance_ppm / 1e6;
}

static void metis_scratch(void)
{
	idx_t tasks = header.tasks, constraints = 1, parts = header.parts, cut;
	idx_t settings[METIS_NOPTIONS];

	METIS_SetDefaultOptions(settings);
	settings[METIS_OPTION_UFACTOR] = header.tolerance_ppm / 1000;
	settings[METIS_OPTION_SEED] = 1;
	if (METIS_PartGraphKway(&tasks, &constraints, offsets, neighbours, weights, NULL, NULL, &parts,
				NULL, NULL, settings, &cut, owners) != METIS_OK)
		fail("METIS_PartGraphKway failed");
}

static void scotch(int remap)
{
	SCOTCH_Graph graph;
	SCOTCH_Arch machine;
	SCOTCH_Strat strategy;
	int32_t *old = array(header.tasks);

	memcpy(old, owners, header.tasks * sizeof *old);
	SCOTCH_randomReset();
	if (SCOTCH_graphInit(&graph) ||
	    SCOTCH_graphBuild(&graph, 0, header.tasks, offsets, offsets + 1, weights, NULL, header.edges,
			      neighbours, NULL) ||
	    SCOTCH_archInit(&machine) || SCOTCH_archCmplt(&machine, header.parts) ||
	    SCOTCH_stratInit(&strategy) ||
	    SCOTCH_stratGraphMapBuild(&strategy, remap ? SCOTCH_STRATREMAP : SCOTCH_STRATDEFAULT,
				      header.parts, tolerance()))
		fail("Scotch does not take the graph");
	/* A task that moves costs as much as an edge that is cut. */
	if (remap ? SCOTCH_graphRemap(&graph, &machine, old, 1.0, NULL, &strategy, owners)
		  : SCOTCH_graphMap(&graph, &machine, &strategy, owners))
		fail("Scotch failed");
	SCOTCH_stratExit(&strategy);
	SCOTCH_archExit(&machine);
	SCOTCH_graphExit(&graph);
	free(old);
}

static int count(void *data, int *error)
{
	(void)data;
	*error = ZOLTAN_OK;
	return header.tasks;
}

static void list(void *data, int gids, int lids, ZOLTAN_ID_PTR gid, ZOLTAN_ID_PTR lid, int wanted, float *weight,
		 int *error)
{
	(void)data, (void)gids, (void)lids, (void)wanted;
	for (int32_t task = 0; task < header.tasks; task++) {
		gid[task] = lid[task] = task;
		weight[task] = weights[task];
	}
	*error = ZOLTAN_OK;
}

static int dimensions(void *data, int *error)
{
	(void)data;
	*error = ZOLTAN_OK;
	return 3;
}

static void positions(void *data, int gids, int lids, int tasks, ZOLTAN_ID_PTR gid, ZOLTAN_ID_PTR lid,
		      int axes, double *at, int *error)
{
	(void)data, (void)gids, (void)lids, (void)gid;
	for (int n = 0; n < tasks; n++)
		for (int axis = 0; axis < axes; axis++)
			at[axes * n + axis] = coordinates[3 * lid[n] + axis];
	*error = ZOLTAN_OK;
}

static void degrees(void *data, int gids, int lids, int tasks, ZOLTAN_ID_PTR gid, ZOLTAN_ID_PTR lid, int *degree,
		    int *error)
{
	(void)data, (void)gids, (void)lids, (void)gid;
	for (int n = 0; n < tasks; n++)
		degree[n] = offsets[lid[n] + 1] - offsets[lid[n]];
	*error = ZOLTAN_OK;
}

static void edges(void *data, int gids, int lids, int tasks, ZOLTAN_ID_PTR gid, ZOLTAN_ID_PTR lid, int *degree,
		  ZOLTAN_ID_PTR to, int *process, int wanted, float *weight, int *error)
{
	(void)data, (void)gids, (void)lids, (void)gid, (void)wanted, (void)degree, (void)weight;
	for (int n = 0; n < tasks; n++)
		for (int32_t e = offsets[lid[n]]; e < offsets[lid[n] + 1]; e++) {
			*to++ = neighbours[e];
			*process++ = 0;
		}
	*error = ZOLTAN_OK;
}

static void parts_of(void *data, int gids, int lids, int tasks, ZOLTAN_ID_PTR gid, ZOLTAN_ID_PTR lid, int *part,
		     int *error)
{
	(void)data, (void)gids, (void)lids, (void)gid;
	for (int n = 0; n < tasks; n++)
		part[n] = owners[lid[n]];
	*error = ZOLTAN_OK;
}

static void zoltan(const char *method, const char *approach)
{
	struct Zoltan_Struct *zoltan = Zoltan_Create(MPI_COMM_WORLD);
	char number[32];
	int changes, gids, lids, imports, exports;
	ZOLTAN_ID_PTR import_gid, import_lid, export_gid, export_lid;
	int *import_process, *import_part, *export_process, *export_part;

	Zoltan_Set_Param(zoltan, "DEBUG_LEVEL", "0");
	Zoltan_Set_Param(zoltan, "LB_METHOD", method);
	Zoltan_Set_Param(zoltan, "GRAPH_PACKAGE", "PHG");
	Zoltan_Set_Param(zoltan, "LB_APPROACH", approach);
	/* A task that moves costs as much as an edge that is cut, as for Scotch. */
	Zoltan_Set_Param(zoltan, "PHG_REPART_MULTIPLIER", "1");
	Zoltan_Set_Param(zoltan, "OBJ_WEIGHT_DIM", "1");
	Zoltan_Set_Param(zoltan, "RETURN_LISTS", "PARTS");
	Zoltan_Set_Param(zoltan, "REMAP", "1");
	Zoltan_Set_Param(zoltan, "SEED", "1");
	snprintf(number, sizeof number, "%f", 1.0 + tolerance());
	Zoltan_Set_Param(zoltan, "IMBALANCE_TOL", number);
	snprintf(number, sizeof number, "%d", header.parts);
	Zoltan_Set_Param(zoltan, "NUM_GLOBAL_PARTS", number);
	Zoltan_Set_Num_Obj_Fn(zoltan, count, NULL);
	Zoltan_Set_Obj_List_Fn(zoltan, list, NULL);
	Zoltan_Set_Num_Geom_Fn(zoltan, dimensions, NULL);
	Zoltan_Set_Geom_Multi_Fn(zoltan, positions, NULL);
	Zoltan_Set_Num_Edges_Multi_Fn(zoltan, degrees, NULL);
	Zoltan_Set_Edge_List_Multi_Fn(zoltan, edges, NULL);
	Zoltan_Set_Part_Multi_Fn(zoltan, parts_of, NULL);
	if (Zoltan_LB_Partition(zoltan, &changes, &gids, &lids, &imports, &import_gid, &import_lid,
				&import_process, &import_part, &exports, &export_gid, &export_lid,
				&export_process, &export_part) != ZOLTAN_OK)
		fail("Zoltan_LB_Partition failed");
	for (int n = 0; n < exports; n++)
		owners[export_lid[n]] = export_part[n];
	Zoltan_LB_Free_Part(&import_gid, &import_lid, &import_process, &import_part);
	Zoltan_LB_Free_Part(&export_gid, &export_lid, &export_process, &export_part);
	Zoltan_Destroy(&zoltan);
}

static void repartition(int32_t method)
{
	switch (method) {
	case METIS_SCRATCH:
		metis_scratch();
		break;
	case SCOTCH_SCRATCH:
		scotch(0);
		break;
	case SCOTCH_REMAP:
		scotch(1);
		break;
	case ZOLTAN_RCB:
		zoltan("RCB", "REPARTITION");
		break;
	case ZOLTAN_REPARTITION:
		zoltan("GRAPH", "REPARTITION");
		break;
	case ZOLTAN_REFINE:
		zoltan("GRAPH", "REFINE");
		break;
	default:
		fail("unknown method");
	}
}

/* Answers requests from standard input until it ends. */
static void serve(FILE *answers)
{
	int32_t method;

	read_graph(stdin);
	if (!read_all(stdin, coordinates, 3 * (size_t)header.tasks * sizeof *coordinates))
		fail("the coordinates are cut short");
	while (read_all(stdin, &method, sizeof method)) {
		double begin;

		if (!read_all(stdin, weights, header.tasks * sizeof *weights) ||
		    !read_all(stdin, owners, header.tasks * sizeof *owners))
			fail("a request is cut short");
		begin = processor_seconds();
		repartition(method);
		if (!write_answer(answers, processor_seconds() - begin))
			fail("cannot answer");
	}
}

/* One run of PT-Scotch: each process reads the whole graph and contributes its range of tasks. */
static void ptscotch(const char *request, const char *answer)
{
	SCOTCH_Dgraph graph;
	SCOTCH_Strat strategy;
	FILE *file = fopen(request, "rb");
	int32_t first, tasks, edges, *local, *mine;
	int process, processes, *counts, *places;
	double seconds, total;

	if (!file)
		fail("cannot open the request");
	read_graph(file);
	if (!read_all(file, weights, header.tasks * sizeof *weights))
		fail("the weights are cut short");
	fclose(file);
	MPI_Comm_rank(MPI_COMM_WORLD, &process);
	MPI_Comm_size(MPI_COMM_WORLD, &processes);
	counts = array(processes);
	places = array(processes);
	for (int p = 0; p < processes; p++) {
		places[p] = (int64_t)header.tasks * p / processes;
		counts[p] = (int64_t)header.tasks * (p + 1) / processes - places[p];
	}
	first = places[process];
	tasks = counts[process];
	edges = offsets[first + tasks] - offsets[first];
	local = array(tasks + 1);
	mine = array(tasks);
	for (int32_t task = 0; task <= tasks; task++)
		local[task] = offsets[first + task] - offsets[first];

	seconds = -processor_seconds();
	if (SCOTCH_dgraphInit(&graph, MPI_COMM_WORLD) ||
	    SCOTCH_dgraphBuild(&graph, 0, tasks, tasks, local, local + 1, weights + first, NULL, edges, edges,
			       neighbours + offsets[first], NULL, NULL) ||
	    SCOTCH_stratInit(&strategy) ||
	    SCOTCH_stratDgraphMapBuild(&strategy, SCOTCH_STRATDEFAULT, processes, header.parts, tolerance()))
		fail("PT-Scotch does not take the graph");
	if (SCOTCH_dgraphPart(&graph, header.parts, &strategy, mine))
		fail("PT-Scotch failed");
	seconds += processor_seconds();

	MPI_Reduce(&seconds, &total, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
	MPI_Gatherv(mine, tasks, MPI_INT32_T, owners, counts, places, MPI_INT32_T, 0, MPI_COMM_WORLD);
	if (process == 0) {
		file = fopen(answer, "wb");
		if (!file || !write_answer(file, total) || fclose(file) != 0)
			fail("cannot write the answer");
	}
}

int main(int argc, char **argv)
{
	/* Libraries may print on standard output, so answers leave by a copy of it. */
	FILE *answers = fdopen(dup(STDOUT_FILENO), "wb");
	float version;
	int threads;

	if (!answers || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		fail("cannot keep standard output for answers");
	/* PT-Scotch has threads of its own, which talk to those of the other process. */
	if (MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &threads) != MPI_SUCCESS ||
	    threads < MPI_THREAD_MULTIPLE || Zoltan_Initialize(argc, argv, &version) != ZOLTAN_OK)
		fail("cannot start MPI and Zoltan");
	if (argc == 3)
		ptscotch(argv[1], argv[2]);
	else
		serve(answers);
	MPI_Finalize();
	return 0;
}
