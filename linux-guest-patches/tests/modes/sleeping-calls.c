// SPDX-License-Identifier: GPL-2.0
/*
 * Nobody sends a signal here, so no call may end with EINTR, and none before
 * its time: whoever is moved while it sleeps goes on sleeping.
 */
#include "modes.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#define MS	60

static const struct timespec nap = { 0, MS * 1000000 };

/*
 * The call must end as it should, and not sooner. (How much later is the
 * affair of whoever else uses the machine.)
 */
#define CALL(good, ...)							\
	do {								\
		double begun = seconds_of(CLOCK_MONOTONIC), took;	\
		long result;						\
									\
		errno = 0;						\
		result = (__VA_ARGS__);					\
		took = seconds_of(CLOCK_MONOTONIC) - begun;		\
		EXPECT(good, #__VA_ARGS__ ": %ld, errno %d", result, errno); \
		EXPECT(took >= MS * 0.99e-3,				\
		       #__VA_ARGS__ ": after %.1f ms", took * 1e3);	\
	} while (0)

static void in_a_while(struct timespec *until)
{
	clock_gettime(CLOCK_REALTIME, until);
	until->tv_nsec += MS * 1000000;
	until->tv_sec += until->tv_nsec / 1000000000;
	until->tv_nsec %= 1000000000;
}

static void with_time_limit(void)
{
	struct sembuf take = { 0, -1, 0 };
	struct timespec rest = nap;
	struct timeval limit = { 0, MS * 1000 };
	struct epoll_event event;
	struct mq_attr attributes = { .mq_maxmsg = 2, .mq_msgsize = 8 };
	struct timespec until;
	int word = 0, none = epoll_create1(0), sem, pair[2];
	sigset_t usr2;
	char byte[8];
	mqd_t queue;

	sem = semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usr2, NULL);
	queue = mq_open("/sleeping-calls", O_RDWR | O_CREAT, 0600, &attributes);
	mq_unlink("/sleeping-calls");

	CALL(result == 0, epoll_wait(none, &event, 1, MS));
	CALL(result < 0 && errno == EAGAIN, semtimedop(sem, &take, 1, &nap));
	CALL(result == 0, poll(NULL, 0, MS));
	CALL(result == 0, select(0, NULL, NULL, NULL, &limit));
	CALL(result == 0, nanosleep(&rest, NULL));
	CALL(result == 0, clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL));
	CALL(result < 0 && errno == ETIMEDOUT,
	     syscall(SYS_futex, &word, FUTEX_WAIT, 0, &nap, NULL, 0));
	CALL(result < 0 && errno == EAGAIN, sigtimedwait(&usr2, NULL, &nap));
	CALL(result < 0 && errno == EAGAIN, recv(pair[0], byte, 1, 0));
	CALL(result < 0 && errno == ETIMEDOUT,
	     (in_a_while(&until),
	      mq_timedreceive(queue, byte, sizeof(byte), NULL, &until)));

	mq_close(queue);
	semctl(sem, 0, IPC_RMID);
	close(none);
	close(pair[0]);
	close(pair[1]);
}

/* These sleep until a child, MS later, does something. */
static void until_woken(void)
{
	struct itimerspec once = { .it_value = nap };
	int bytes[2], timer = timerfd_create(CLOCK_MONOTONIC, 0);
	int messages = msgget(IPC_PRIVATE, 0600 | IPC_CREAT);
	struct message { long type; char text[1]; } message = { 1, "x" };
	int lock = memfd_create("lock", 0);
	char path[64], byte;
	uint64_t ticks;
	pid_t pid;

	pipe(bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", lock);
	CALL(result == 8, (timerfd_settime(timer, 0, &once, NULL),
			   read(timer, &ticks, 8)));

	pid = fork();
	if (!pid) {
		int own = open(path, O_RDWR);

		flock(own, LOCK_EX);
		write(bytes[1], "l", 1);
		usleep(2 * MS * 1000);
		write(bytes[1], "x", 1);
		usleep(2 * MS * 1000);
		msgsnd(messages, &message, 1, 0);
		usleep(2 * MS * 1000);
		flock(own, LOCK_UN);
		usleep(2 * MS * 1000);
		_exit(3);
	}
	EXPECT(read(bytes[0], &byte, 1) == 1 && byte == 'l', "errno %d", errno);
	EXPECT(read(bytes[0], &byte, 1) == 1 && byte == 'x', "errno %d", errno);
	EXPECT(msgrcv(messages, &message, 1, 0, 0) == 1, "msgrcv: errno %d", errno);
	EXPECT(!flock(lock, LOCK_EX), "flock: errno %d", errno);
	EXPECT(waitpid(pid, NULL, 0) == pid, "waitpid: errno %d", errno);
	msgctl(messages, IPC_RMID, NULL);
	close(bytes[0]);
	close(bytes[1]);
	close(timer);
	close(lock);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	alarms++;
}

/* Only the signal that is handled ends these. */
static void until_signal(void)
{
	sigset_t none;

	sigemptyset(&none);
	signal(SIGALRM, on_alarm);
	for (int i = 0; i < 4; i++) {
		int before = alarms;

		ualarm(MS * 1000, 0);
		if (i & 1)
			sigsuspend(&none);
		else
			pause();
		EXPECT(alarms == before + 1, "pause: %d alarms", alarms - before);
	}
}

int main(void)
{
	for (int i = 0; i < 6; i++) {
		volatile long spin;

		with_time_limit();
		until_woken();
		until_signal();
		for (spin = 0; spin < 1000000; spin++)
			;
	}
	return wrong;
}
