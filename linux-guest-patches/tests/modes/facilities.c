// SPDX-License-Identifier: GPL-2.0
/*
 * What Debian's kernel has built in, and programs take for granted: keyrings,
 * BPF maps, userfaultfd, kcmp, Landlock, fanotify's permission events, process
 * accounting, autogroups. One use of each that shows that it works.
 */
#include "modes.h"
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/kcmp.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/acct.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void keys(void)
{
	char value[8] = "";
	long key = syscall(SYS_add_key, "user", "tacet-test", "secret", 6,
			   KEY_SPEC_PROCESS_KEYRING);

	EXPECT(key > 0, "add_key: %s", strerror(errno));
	EXPECT(syscall(SYS_keyctl, KEYCTL_READ, key, value, sizeof(value)) == 6 &&
	       !strcmp(value, "secret"), "read \"%s\": %s", value, strerror(errno));
}

static void bpf_map(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_HASH,
		.key_size = 4,
		.value_size = 8,
		.max_entries = 4,
	};
	uint32_t key = 5;
	uint64_t value = 77, read = 0;
	int map = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));

	EXPECT(map >= 0, "BPF_MAP_CREATE: %s", strerror(errno));
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)&value;
	EXPECT(!syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)),
	       "update: %s", strerror(errno));
	attr.value = (uintptr_t)&read;
	EXPECT(!syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)) &&
	       read == 77, "looked up %lu", (unsigned long)read);
	close(map);
}

static int uffd;

/* Answers the one fault that is to come with a page of 'u'. */
static void *answer_fault(void *unused)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct pollfd wait = { .fd = uffd, .events = POLLIN };
	struct uffd_msg message;
	struct uffdio_copy copy = { .len = 4096, .src = (uintptr_t)page };

	memset(page, 'u', sizeof(page));
	EXPECT(poll(&wait, 1, 30000) == 1, "no fault came");
	if (read(uffd, &message, sizeof(message)) == sizeof(message)) {
		copy.dst = message.arg.pagefault.address & ~4095ul;
		EXPECT(!ioctl(uffd, UFFDIO_COPY, &copy), "copy: %s",
		       strerror(errno));
	}
	return NULL;
}

static void user_faults(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = {
		.range = { .len = 4096 },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	EXPECT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api), "userfaultfd: %s",
	       strerror(errno));
	if (uffd < 0)
		return;
	area.range.start = (uintptr_t)page;
	EXPECT(!ioctl(uffd, UFFDIO_REGISTER, &area), "register: %s",
	       strerror(errno));
	pthread_create(&thread, NULL, answer_fault, NULL);
	EXPECT(*(volatile char *)page == 'u', "the page is %d", *page);
	pthread_join(thread, NULL);
	close(uffd);
}

static void same_file(void)
{
	int same = dup(0), other = open("/dev/null", O_RDONLY);
	pid_t self = getpid();

	EXPECT(!syscall(SYS_kcmp, self, self, KCMP_FILE, 0, same), "dup(0)");
	EXPECT(syscall(SYS_kcmp, self, self, KCMP_FILE, 0, other) > 0, "another");
	close(same);
	close(other);
}

static void landlock(void)
{
	struct landlock_ruleset_attr rules = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE,
	};
	int status;
	pid_t pid = fork();

	if (!pid) {
		int fd = syscall(SYS_landlock_create_ruleset, &rules,
				 sizeof(rules), 0);

		if (fd < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    syscall(SYS_landlock_restrict_self, fd, 0))
			_exit(1);
		_exit(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 0 : 2);
	}
	waitpid(pid, &status, 0);
	EXPECT(!status, "status %#x", status);
}

static void permission_events(void)
{
	struct fanotify_event_metadata event;
	struct fanotify_response response = { .response = FAN_DENY };
	char name[] = "/root/facilities.XXXXXX";
	int file = mkstemp(name), status;
	int fan = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
	pid_t pid;

	EXPECT(fan >= 0 && !fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD,
					  name), "fanotify: %s", strerror(errno));
	close(file);
	pid = fork();
	if (!pid)
		_exit(open(name, O_RDONLY) < 0 && errno == EPERM ? 0 : 1);
	if (read(fan, &event, sizeof(event)) >= (ssize_t)sizeof(event)) {
		response.fd = event.fd;
		EXPECT(write(fan, &response, sizeof(response)) == sizeof(response),
		       "deny: %s", strerror(errno));
		close(event.fd);
	}
	waitpid(pid, &status, 0);
	EXPECT(!status, "the open that was denied: status %#x", status);
	close(fan);
	unlink(name);
}

static void accounting(void)
{
	char name[] = "/root/acct.XXXXXX";
	struct acct_v3 record = { 0 };
	int fd = mkstemp(name);
	pid_t pid;

	EXPECT(!acct(name), "acct: %s", strerror(errno));
	pid = fork();
	if (!pid)
		_exit(3);
	waitpid(pid, NULL, 0);
	acct(NULL);
	EXPECT(read(fd, &record, sizeof(record)) == sizeof(record) &&
	       record.ac_pid == (unsigned)pid && record.ac_exitcode == 3 << 8,
	       "a record of %u with status %#x", record.ac_pid, record.ac_exitcode);
	close(fd);
	unlink(name);
}

int main(void)
{
	keys();
	bpf_map();
	user_faults();
	same_file();
	landlock();
	permission_events();
	accounting();
	EXPECT(!access("/proc/self/autogroup", R_OK), "autogroup");
	return wrong;
}
