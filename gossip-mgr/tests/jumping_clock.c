/* Preloaded by a test: adds the seconds in $CLOCK_OFFSET_FILE to the wall clock, read anew each time, so that it jumps while a
 * program runs. The monotonic clocks go on as they are, as when an administrator or NTP sets the time. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long result = syscall(SYS_clock_gettime, clock, now);
	const char *name = getenv("CLOCK_OFFSET_FILE");

	if (result == 0 && clock == CLOCK_REALTIME && name) {
		FILE *file = fopen(name, "r");
		long offset;

		if (file && fscanf(file, "%ld", &offset) == 1)
			now->tv_sec += offset;
		if (file)
			fclose(file);
	}
	return (int)result;
}
