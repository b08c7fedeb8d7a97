/*
 * LAMMPS that survives failures. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *	lammps LEGS STEPS MICROSECONDS OUTPUT
 *
 * Drives Debian's liblammps, unchanged, through its C interface: LEGS times STEPS steps of a melting crystal. Behind a leg it
 * asks SCR whether a checkpoint is due, lets LAMMPS write its restart files (one of each rank, and rank 0's common one) where
 * SCR says, and goes on from those that SCR offers. At the end it writes all atoms to OUTPUT, each number with all its bits.
 */
#include <mpi.h>
#include <scr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of LAMMPS's library interface, whose header is in a package of its own. */
void *lammps_open(int argc, char **argv, MPI_Comm comm, void **handle);
void lammps_command(void *lammps, const char *command);
void lammps_close(void *lammps);

static const char *const MELT[] = {
	"units lj",
	"atom_style atomic",
	"lattice fcc 0.8442",
	"region box block 0 6 0 6 0 6",
	"create_box 1 box",
	"create_atoms 1 box",
	"mass 1 1.0",
	"velocity all create 3.0 87287 loop geom",
	"pair_style lj/cut 2.5",
	"pair_coeff 1 1 1.0 1.0 2.5",
};
/* Restart files do not have these. */
static const char *const SETTINGS[] = {
	"neighbor 0.3 bin",
	"neigh_modify every 20 delay 0 check no",
	"fix 1 all nve",
};

static void *lammps;
static int rank;

static void all(const char *const *commands, size_t count)
{
	for (size_t i = 0; i < count; i++)
		lammps_command(lammps, commands[i]);
}

/* One of this rank's files: where SCR has it, in `path`. */
static int route(const char *end, char *path)
{
	char name[SCR_MAX_FILENAME];

	snprintf(name, sizeof name, "lammps.%s", end);
	return SCR_Route_file(name, path) == SCR_SUCCESS;
}

/* Lets LAMMPS write or read the restart files and this rank's note of the leg; whether it went well. */
static int transfer(const char *command, int *leg)
{
	int is_writing = strcmp(command, "write_restart") == 0, fine;
	char own[32], path[SCR_MAX_FILENAME], note[SCR_MAX_FILENAME], line[SCR_MAX_FILENAME + 32];
	FILE *file;

	snprintf(own, sizeof own, "%d", rank);
	fine = route("leg", note) && (rank || route("base", path)) && route(own, path);
	MPI_Allreduce(MPI_IN_PLACE, &fine, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
	if (!fine)
		return 0;
	/* LAMMPS puts the rank, and `base`, in place of the percent sign; each rank has a folder of its own. */
	*(strrchr(path, '.') + 1) = 0;
	snprintf(line, sizeof line, "%s %s%%", command, path);
	lammps_command(lammps, line);
	file = fopen(note, is_writing ? "w" : "r");
	if (!file)
		return 0;
	fine = is_writing ? fprintf(file, "%d\n", *leg) > 0 : fscanf(file, "%d", leg) == 1;
	return fclose(file) == 0 && fine;
}

static int restart(void)
{
	int leg = 0, is_there;

	while (SCR_Have_restart(&is_there, NULL) == SCR_SUCCESS && is_there) {
		SCR_Start_restart(NULL);
		if (SCR_Complete_restart(transfer("read_restart", &leg)) == SCR_SUCCESS) {
			if (rank == 0)
				fprintf(stderr, "lammps: restarts at leg %d\n", leg);
			return leg;
		}
		lammps_command(lammps, "clear");
	}
	all(MELT, sizeof MELT / sizeof *MELT);
	return 0;
}

int main(int argc, char **argv)
{
	char *options[] = { "lammps", "-log", "none", "-screen", "none", "-nocite" };
	char line[SCR_MAX_FILENAME + 128];
	int legs, pause, flag;

	if (argc != 5) {
		fprintf(stderr, "usage: lammps LEGS STEPS MICROSECONDS OUTPUT\n");
		return 2;
	}
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	legs = atoi(argv[1]);
	pause = atoi(argv[3]);
	if (SCR_Init() != SCR_SUCCESS)
		MPI_Abort(MPI_COMM_WORLD, 3);
	lammps = lammps_open(sizeof options / sizeof *options, options, MPI_COMM_WORLD, NULL);
	int leg = restart();

	all(SETTINGS, sizeof SETTINGS / sizeof *SETTINGS);
	snprintf(line, sizeof line, "run %d", atoi(argv[2]));
	while (leg < legs) {
		lammps_command(lammps, line);
		leg++;
		if (pause)
			usleep(pause);
		/* Writing moves atoms to their processes and into the box, which may not differ at the end. */
		if (leg < legs && SCR_Need_checkpoint(&flag) == SCR_SUCCESS && flag) {
			SCR_Start_output(NULL, SCR_FLAG_CHECKPOINT);
			SCR_Complete_output(transfer("write_restart", &leg));
		}
		if (SCR_Should_exit(&flag) == SCR_SUCCESS && flag) {
			SCR_Finalize();
			lammps_close(lammps);
			MPI_Finalize();
			return 0;
		}
	}
	snprintf(line, sizeof line, "write_dump all custom %s id x y z vx vy vz modify sort id format float %%a", argv[4]);
	lammps_command(lammps, line);
	SCR_Finalize();
	lammps_close(lammps);
	MPI_Finalize();
	return 0;
}
