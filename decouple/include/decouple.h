/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libdecouple: run threads alone on silent compute cores. Link with -ldecouple.
 *
 * Functions that return int return a negative errno on failure; decouple_error() then has the message. They may be
 * called from any thread. Failures: ENOSYS not on Tacet, ENODEV no such core, EINVAL a service core or a malformed
 * argument, EBUSY the core is taken or reserved, ESRCH no such thread, EPERM not permitted (the rule of ptrace),
 * EALREADY decoupled already, ENOENT not decoupled.
 */
#ifndef DECOUPLE_H
#define DECOUPLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The first free core. */
#define DECOUPLE_ANY_CORE (-1)

enum decouple_state {
	DECOUPLE_IDLE = 0,
	DECOUPLE_RESERVED = 1,	/* idle, and kept for the holder of the reservation */
	DECOUPLE_RUNNING = 2,	/* user code runs */
	DECOUPLE_TRAPPED = 3	/* waits for Linux to answer */
};

struct decouple_core {
	int core;
	int state;		/* enum decouple_state */
	int pid;		/* 0: nobody is there */
	int tid;
	int64_t uid;		/* -1: nobody is there */
	int reserved_by;	/* PID of the reservation's holder, or 0 */
	char comm[16];
	uint64_t since_ns;	/* CLOCK_MONOTONIC when the thread came, or 0 */
	/*
	 * Of the present thread, or of the last one when nobody is there; all 0
	 * for threads that the caller may not trace.
	 */
	uint64_t syscalls;
	uint64_t faults;
	uint64_t traps;
	uint64_t stops;
	uint64_t answer_ns;	/* from traps to answers, all together */
};

struct decouple_reservation;

/*
 * Decouples a thread: the calling one (pid 0, tid 0), the main one of a process (tid 0), or any. Returns the core.
 * With DECOUPLE_RESERVATION=PID in the environment, the cores are those that this process reserved.
 */
int decouple_attach(int pid, int tid, int core);

/* Brings a thread back to Linux. */
int decouple_detach(int pid, int tid);

/* Fills at most length elements and returns how many compute cores there are. */
int decouple_status(struct decouple_core *cores, size_t length);

/* Reserves the cores of a list like "1-3,5", all or none, until decouple_release or the end of the process. */
int decouple_reserve(const char *list, struct decouple_reservation **reservation);

/* As decouple_attach, onto a core of the reservation (DECOUPLE_ANY_CORE: its first free one). */
int decouple_attach_reserved(const struct decouple_reservation *reservation, int pid, int tid, int core);

/* Gives the cores back; threads that run there stay. */
void decouple_release(struct decouple_reservation *reservation);

/* The message of the calling thread's last failure; valid until its next call. */
const char *decouple_error(void);

#ifdef __cplusplus
}
#endif

#endif
