/*
 * SCR's interface (version 3) on gossip-mgr's checkpoint library. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Link with -lscr. Calls are collective over MPI_COMM_WORLD, but for SCR_Route_file, SCR_Config before SCR_Init and
 * SCR_Get_version. Not for several threads at once. docs/gossip-mgr-checkpoint.md describes each call.
 */
#ifndef SCR_H
#define SCR_H

#include <stdarg.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SCR_SUCCESS (0)
#define SCR_FAILURE (1)

/* Bytes of the buffer that SCR_Route_file and the names of restarts need. */
#define SCR_MAX_FILENAME 1024

#define SCR_FLAG_NONE (0)
#define SCR_FLAG_CHECKPOINT (1 << 0) /* the program can be restarted from it */
#define SCR_FLAG_OUTPUT (1 << 1)     /* it is to be where the program's paths say */

int SCR_Init(void);     /* after MPI_Init */
int SCR_Finalize(void); /* before MPI_Finalize */
const char *SCR_Get_version(void);

/* "KEY=VALUE" sets, before SCR_Init; "KEY" gets. What it gives is for free(); NULL if there is nothing. */
const char *SCR_Config(const char *config);

__attribute__((format(printf, 1, 2))) static inline const char *SCR_Configf(const char *format, ...)
{
	char text[SCR_MAX_FILENAME];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	return SCR_Config(text);
}

int SCR_Route_file(const char *name, char *file);

int SCR_Have_restart(int *flag, char *name);
int SCR_Start_restart(char *name);
int SCR_Complete_restart(int valid);

int SCR_Need_checkpoint(int *flag);
int SCR_Should_exit(int *flag);
int SCR_Start_output(const char *name, int flags);
int SCR_Complete_output(int valid);

/* The same with SCR_FLAG_CHECKPOINT and a name of the library's. */
int SCR_Start_checkpoint(void);
int SCR_Complete_checkpoint(int valid);

/*
 * Beyond SCR: memory instead of files. Each rank names its arrays once, then writes them all, compressed and without what
 * has not changed, or reads them back.
 */
int SCR_Dense_protect(int id, void *memory, unsigned long bytes); /* stays, and overlaps no other */
int SCR_Dense_checkpoint(void); /* a checkpoint of all of them */
int SCR_Dense_restart(void);    /* SCR_SUCCESS if they were filled, SCR_FAILURE if there is no checkpoint */

#ifdef __cplusplus
}
#endif
#endif
