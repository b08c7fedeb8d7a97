// SPDX-License-Identifier: GPL-2.0
/*
 * /proc says of a thread that computes that it runs, and of one that waits
 * that it sleeps; and what it uses is to be seen while it runs.
 */
#include "modes.h"
#include <signal.h>
#include <sys/resource.h>

static volatile unsigned long spin;

static pid_t computing(void)
{
	pid_t pid = fork();

	if (!pid)
		for (;;)
			spin++;
	return pid;
}

static unsigned int running_in_loadavg(void)
{
	unsigned int running = 0;
	FILE *file = fopen("/proc/loadavg", "r");

	fscanf(file, "%*f %*f %*f %u/", &running);
	fclose(file);
	return running;
}

static void busy(void)
{
	pid_t pid = computing();
	char line[1024], path[64], text[64] = "";
	unsigned long user = 0, later = 0, wchan;
	clockid_t clock;
	double first, second;
	int seen = 0, i;
	FILE *file;

	/* Long enough for whoever watches this test to move the child. */
	for (i = 0; i < 300; i++) {
		char state = state_of(pid, line, sizeof(line));

		EXPECT(state == 'R', "a computing process is %c", state);
		seen += state == 'R';
		if (state != 'R')
			break;
		sscanf(line, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu",
		       &later);
		if (!user)
			user = later;
		usleep(5000);
	}
	EXPECT(later > user, "its user time went from %lu to %lu", user, later);

	/* wchan: the 32nd field behind the state. */
	state_of(pid, line, sizeof(line));
	for (i = 0, wchan = 1; i < 32; i++)
		memmove(line, strchr(line, ' ') + 1, strlen(strchr(line, ' ')));
	wchan = atol(line);
	EXPECT(wchan == 0, "its wchan is %lu", wchan);
	snprintf(path, sizeof(path), "/proc/%d/wchan", pid);
	file = fopen(path, "r");
	if (file) {
		fgets(text, sizeof(text), file);
		fclose(file);
		EXPECT(!strcmp(text, "0"), "wchan names %s", text);
	}
	/* This process and the child. */
	EXPECT(running_in_loadavg() >= 2, "loadavg counts %u running",
	       running_in_loadavg());

	EXPECT(!clock_getcpuclockid(pid, &clock), "clock_getcpuclockid");
	first = seconds_of(clock);
	for (i = 0; i < 1000; i++) {
		second = seconds_of(clock);
		EXPECT(second >= first, "its clock went from %f to %f", first,
		       second);
		if (second > first)
			break;
		usleep(1000);
	}
	EXPECT(second > first, "its clock stands at %f", first);

	kill(pid, SIGSTOP);
	EXPECT(comes_to_state(pid, 'T'), "it is not stopped, but %c",
	       state_of(pid, NULL, 0));
	kill(pid, SIGCONT);
	EXPECT(comes_to_state(pid, 'R'), "it does not run again, but is %c",
	       state_of(pid, NULL, 0));
	kill(pid, SIGKILL);
	EXPECT(comes_to_state(pid, 'Z'), "it is no zombie, but %c",
	       state_of(pid, NULL, 0));
	waitpid(pid, NULL, 0);
}

static void blocked(void)
{
	pid_t pid = fork();
	int i;

	if (!pid)
		for (;;)
			pause();
	EXPECT(comes_to_state(pid, 'S'), "a waiting process is %c",
	       state_of(pid, NULL, 0));
	for (i = 0; i < 100; i++) {
		char state = state_of(pid, NULL, 0);

		EXPECT(state == 'S', "later it is %c", state);
		if (state != 'S')
			break;
		usleep(5000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	busy();
	blocked();
	return wrong;
}
