/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * worker [THREADS]: computes without a system call until it is told to stop, in that many threads (default 1).
 *
 * Says `ready` on standard output, and `usr1 N` for the Nth SIGUSR1. SIGUSR2 ends it with status 5; SIGALRM says
 * `count N`, how far the main thread has computed.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_ulong counter;
static volatile sig_atomic_t usr1;

static void say(const char *what, unsigned long number)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "%s %lu\n", what, number);

	if (write(1, text, length) != length)
		_exit(3);
}

static void on_signal(int number)
{
	if (number == SIGUSR1)
		say("usr1", ++usr1);
	else if (number == SIGALRM)
		say("count", counter);
	else
		_exit(5);
}

static void *compute(void *count)
{
	for (;;)
		atomic_fetch_add_explicit((atomic_ulong *)count, 1, memory_order_relaxed);
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	struct sigaction action;
	static atomic_ulong others;
	pthread_t thread;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_signal;
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	while (threads-- > 1)
		if (pthread_create(&thread, NULL, compute, &others))
			return 3;
	puts("ready");
	fflush(stdout);
	compute(&counter);
	return 0;
}
