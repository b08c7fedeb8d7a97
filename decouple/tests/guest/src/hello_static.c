/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that no library can be preloaded into: says hello and ends with the status or signal that it is told. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	puts("hello");
	fflush(stdout);
	if (argc > 1 && strcmp(argv[1], "signal") == 0)
		raise(SIGTERM);
	return argc > 1 ? atoi(argv[1]) : 0;
}
