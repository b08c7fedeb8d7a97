/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The C library: decouples itself and comes back, reserves, and gets every kind of refusal. Says `ok libuser`. */
#include <decouple.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPECT(condition)										\
	do {												\
		if (!(condition)) {									\
			printf("not ok libuser: line %d: %s (%s)\n", __LINE__, #condition, decouple_error());	\
			exit(1);									\
		}											\
	} while (0)

int main(void)
{
	struct decouple_reservation *reservation;
	struct decouple_core cores[64];
	int count, core, i, found = 0;

	count = decouple_status(cores, 64);
	EXPECT(count >= 2);
	EXPECT(cores[0].state == DECOUPLE_IDLE && cores[0].pid == 0 && cores[0].uid == -1);

	core = decouple_attach(0, 0, DECOUPLE_ANY_CORE);
	EXPECT(core == cores[0].core);
	EXPECT(decouple_status(cores, 64) == count);
	for (i = 0; i < count; i++)
		found += cores[i].core == core && cores[i].pid == getpid() && cores[i].tid == getpid();
	EXPECT(found == 1);
	EXPECT(strcmp(cores[0].comm, "libuser") == 0);
	EXPECT(decouple_attach(0, 0, DECOUPLE_ANY_CORE) == -EALREADY);
	EXPECT(decouple_detach(0, 0) == 0);
	EXPECT(decouple_detach(0, 0) == -ENOENT);
	EXPECT(strstr(decouple_error(), "is not decoupled"));

	EXPECT(decouple_attach(0, 0, 63) == -ENODEV);
	EXPECT(strstr(decouple_error(), "core 63 does not exist"));
	EXPECT(decouple_attach(0, 0, 0) == -EINVAL);
	EXPECT(decouple_attach(-1, 0, DECOUPLE_ANY_CORE) == -EINVAL);
	EXPECT(decouple_attach(999999999, 0, DECOUPLE_ANY_CORE) == -ESRCH);

	EXPECT(decouple_reserve("1,x", &reservation) == -EINVAL);
	EXPECT(decouple_reserve("2", &reservation) == 0);
	EXPECT(decouple_attach_reserved(reservation, 0, 0, DECOUPLE_ANY_CORE) == 2);
	EXPECT(decouple_detach(0, 0) == 0);
	decouple_release(reservation);
	puts("ok libuser");
	return 0;
}
