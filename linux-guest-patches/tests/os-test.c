// SPDX-License-Identifier: GPL-2.0
/*
 * What a program may expect of Linux's architecture code: memory, threads,
 * signals, extended state, tracing. Runs on any x86-64 Linux. Prints TAP; exits
 * with the number of failures (at most 100). Started as PID 1 it mounts what it
 * needs and powers the machine off at the end.
 *
 * cc -static -O2 -pthread -o os-test os-test.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096ul

static int number, failures;

static void check(bool ok, const char *name)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++number, name);
	fflush(stdout);
	if (!ok)
		failures++;
}

static void *pages(size_t n, int prot)
{
	void *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(101);
	}
	return p;
}

static int exit_of(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Faults: the handler notes what it was told and jumps back. */

static sigjmp_buf back;
static volatile int got_sig, got_code;
static volatile uintptr_t got_addr;
static volatile greg_t got_err, got_trapno;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	got_sig = sig;
	got_code = info->si_code;
	got_addr = (uintptr_t)info->si_addr;
	got_err = uc->uc_mcontext.gregs[REG_ERR];
	got_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(back, 1);
}

static void catch_faults(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	unsigned int i;

	for (i = 0; i < sizeof(sigs) / sizeof(*sigs); i++)
		sigaction(sigs[i], &sa, NULL);
}

#define FAULT(expr) (got_sig = 0, sigsetjmp(back, 1) == 0 ? ((void)(expr), 0) : 0, got_sig)

static void test_faults(void)
{
	volatile char *p = pages(2, PROT_READ | PROT_WRITE);
	volatile char *file, *volatile nothing = (char *)8;
	int fd;

	catch_faults();
	check(FAULT(*nothing) == SIGSEGV && got_code == SEGV_MAPERR &&
	      got_addr == 8 && got_trapno == 14 && !(got_err & 2), "a read of nothing");
	check(FAULT(*nothing = 1) == SIGSEGV && (got_err & 2), "a write to nothing");
	p[0] = 1;
	mprotect((void *)p, PAGE, PROT_READ);
	check(FAULT(p[0] = 2) == SIGSEGV && got_code == SEGV_ACCERR && p[0] == 1,
	      "a write to a page that became read-only");
	mprotect((void *)p, PAGE, PROT_NONE);
	check(FAULT(p[0]) == SIGSEGV && got_code == SEGV_ACCERR, "a read of PROT_NONE");
	mprotect((void *)p, PAGE, PROT_READ | PROT_WRITE);
	check(FAULT(p[0] = 3) == 0 && p[0] == 3, "and after it was allowed again");
	*(volatile unsigned char *)p = 0xc3;
	check(FAULT(((void (*)(void))p)()) == SIGSEGV && got_code == SEGV_ACCERR,
	      "execution of data");
	mprotect((void *)p, PAGE, PROT_READ | PROT_EXEC);
	check(FAULT(((void (*)(void))p)()) == 0, "execution after mprotect");
	munmap((void *)p, PAGE);
	check(FAULT(p[0]) == SIGSEGV && got_code == SEGV_MAPERR, "a read after munmap");
	check(FAULT(({ asm volatile("ud2"); })) == SIGILL && got_code == ILL_ILLOPN, "ud2");
	check(FAULT(({ int a = 1, d = 0; asm volatile("idivl %1" : "+a" (a) : "r" (d) : "edx"); })) ==
	      SIGFPE && got_code == FPE_INTDIV, "division by zero");
	check(FAULT(({ asm volatile("int3"); })) == SIGTRAP, "int3");
	check(FAULT(({ asm volatile("hlt"); })) == SIGSEGV && got_trapno == 13, "hlt");
	check(FAULT(*(volatile char *)0x8000000000000000) == SIGSEGV, "a non-canonical address");

	fd = memfd_create("short", 0);
	if (ftruncate(fd, PAGE))
		perror("ftruncate");
	file = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	check(FAULT(file[PAGE]) == SIGBUS && got_code == BUS_ADRERR, "behind the end of a file");
	close(fd);
}

/* System calls must check what they are given. */

static void test_user_copies(void)
{
	char *p = pages(3, PROT_READ | PROT_WRITE);
	char buf[2 * PAGE];
	int fds[2];

	munmap(p + PAGE, PAGE);
	if (pipe(fds))
		perror("pipe");
	check(write(fds[1], p + PAGE, 1) == -1 && errno == EFAULT, "write from a hole: EFAULT");
	check(write(fds[1], p + PAGE - 4, 4) == 4, "write up to a hole");
	check(read(fds[0], p + PAGE, 4) == -1 && errno == EFAULT, "read into a hole: EFAULT");
	mprotect(p, PAGE, PROT_READ);
	check(read(fds[0], p, 4) == -1 && errno == EFAULT, "read into a read-only page: EFAULT");
	memset(p + 2 * PAGE, 'x', PAGE);
	check(open(p + 2 * PAGE, O_RDONLY) == -1 && (errno == ENAMETOOLONG || errno == EFAULT),
	      "a path without an end");
	check(syscall(SYS_write, fds[1], 0xffff800000000000ul, 8) == -1 && errno == EFAULT,
	      "write from a kernel address: EFAULT");
	memset(buf, 7, sizeof(buf));
	check(process_vm_readv(getpid(), &(struct iovec) { buf, 8 }, 1,
			       &(struct iovec) { p + 2 * PAGE, 8 }, 1, 0) == 8 && buf[0] == 'x',
	      "process_vm_readv");
	close(fds[0]);
	close(fds[1]);
}

/* fork: both sides write, neither sees the other. */
static void test_fork(void)
{
	volatile int *p = pages(64, PROT_READ | PROT_WRITE);
	int i, sum = 0;
	pid_t pid;

	for (i = 0; i < 64; i++)
		p[i * 1024] = i;
	pid = fork();
	if (!pid) {
		for (i = 0; i < 64; i++) {
			if (p[i * 1024] != i)
				_exit(1);
			p[i * 1024] = -1;
		}
		_exit(7);
	}
	for (i = 0; i < 64; i++)
		p[i * 1024] += 100;
	check(exit_of(pid) == 7, "a child sees the memory of before the fork");
	for (i = 0; i < 64; i++)
		sum += p[i * 1024];
	check(sum == 64 * 100 + 63 * 32, "and its parent not the child's writes");

	for (i = 0; i < 50; i++) {
		pid = fork();
		if (!pid)
			_exit(i);
		if (exit_of(pid) != i)
			break;
	}
	check(i == 50, "fifty children, one after the other");

	pid = fork();
	if (!pid) {
		execl("/proc/self/exe", "os-test", "--exit", "23", NULL);
		_exit(99);
	}
	check(exit_of(pid) == 23, "exec");
	pid = vfork();
	if (!pid)
		_exit(5);
	check(exit_of(pid) == 5, "vfork");
	pid = fork();
	if (!pid)
		for (;;)
			;
	kill(pid, SIGKILL);
	check(exit_of(pid) == 1000 + SIGKILL, "kill -9 of a spinning child");
}

/* Threads: futexes, and memory that another thread takes away. */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void *count(void *arg)
{
	int i;

	for (i = 0; i < 20000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static _Atomic(volatile long *) shared;
static atomic_bool stop;
static atomic_long rounds;

static void *toucher(void *arg)
{
	long n = 0;

	while (!stop) {
		volatile long *p = shared;

		if (p) {
			(*p)++;
			n++;
		}
		rounds++;
		sched_yield();
	}
	return (void *)n;
}

static void test_threads(void)
{
	pthread_t t[4];
	void *ret;
	int i;

	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, count, NULL);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	check(counter == 80000, "four threads count under a mutex");

	/* A page that comes and goes must be the new one each time. */
	pthread_create(&t[0], NULL, toucher, NULL);
	for (i = 0; i < 300; i++) {
		volatile long *p = pages(1, PROT_READ | PROT_WRITE);
		long seen;

		if (*p)
			break;
		shared = p;
		sched_yield();
		sched_yield();
		shared = NULL;
		/* It may be in the midst of a round, on another CPU. */
		for (seen = rounds; rounds < seen + 2;)
			sched_yield();
		munmap((void *)p, PAGE);
	}
	stop = true;
	pthread_join(t[0], &ret);
	check(i == 300 && (long)ret > 0, "new pages are zero while another thread touches them");
}

/* Signals: masks, alternate stack, restart, interrupted sleep, extended state. */

static volatile sig_atomic_t signals, on_alt;
static char alt_stack[65536];

static void on_signal(int sig)
{
	char here;

	signals++;
	on_alt = &here >= alt_stack && &here < alt_stack + sizeof(alt_stack);
	/* A handler may use the registers as it likes. */
	asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n\tvpxor %%ymm15, %%ymm15, %%ymm15"
		     : : : "xmm0", "xmm15");
}

static bool has_avx(void)
{
	return __builtin_cpu_supports("avx");
}

static void test_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	stack_t ss = { .ss_sp = alt_stack, .ss_size = sizeof(alt_stack) };
	struct itimerval tick = { .it_value.tv_usec = 20000 };
	uint64_t in[4] = { 1, 2, 3, 4 }, out[4] = { };
	int fds[2];
	char c;
	pid_t pid;

	if (!has_avx()) {
		printf("# no AVX: registers in handlers are not tested\n");
	} else {
		sigaction(SIGUSR1, &sa, NULL);
		asm volatile("vmovdqu (%1), %%ymm15\n\t"
			     "mov %2, %%eax\n\tmov %3, %%edi\n\tmov %4, %%esi\n\tsyscall\n\t"
			     "vmovdqu %%ymm15, (%0)"
			     : : "r" (out), "r" (in), "i" (SYS_kill), "r" (getpid()), "i" (SIGUSR1)
			     : "rax", "rdi", "rsi", "rcx", "r11", "xmm15", "memory");
		check(signals == 1 && !memcmp(in, out, sizeof(in)),
		      "a handler runs and the whole vector registers survive it");
	}

	sigaltstack(&ss, NULL);
	sa.sa_handler = on_signal;
	sigaction(SIGUSR2, &sa, NULL);
	if (has_avx()) {
		raise(SIGUSR2);
		check(on_alt, "on the alternate stack");
	}

	/* A blocking read: restarted with SA_RESTART, interrupted without. */
	if (pipe(fds))
		perror("pipe");
	signal(SIGALRM, SIG_DFL);
	sa.sa_handler = (void (*)(int))on_signal;
	sa.sa_flags = 0;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
	check(read(fds[0], &c, 1) == -1 && errno == EINTR, "a signal interrupts a read");
	sa.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &sa, NULL);
	pid = fork();
	if (!pid) {
		usleep(60000);
		if (write(fds[1], "z", 1) != 1)
			_exit(1);
		_exit(0);
	}
	signals = 0;
	setitimer(ITIMER_REAL, &tick, NULL);
	check(read(fds[0], &c, 1) == 1 && c == 'z' && signals == 1,
	      "and with SA_RESTART it goes on");
	exit_of(pid);

	tick.it_interval.tv_usec = 2000;
	signals = 0;
	setitimer(ITIMER_REAL, &tick, NULL);
	while (signals < 20)
		;
	tick = (struct itimerval) { };
	setitimer(ITIMER_REAL, &tick, NULL);
	check(signals >= 20, "a timer's signals reach a spinning program");
}

/* Two processes with their own vector registers, switched often. */
static void test_extended_state(void)
{
	bool ok = true;
	pid_t pid;
	int i;

	if (!has_avx())
		return;
	pid = fork();
	for (i = 0; i < 500 && ok; i++) {
		uint64_t in[4] = { i, getpid(), ~(uint64_t)i, pid }, out[4];

		asm volatile("vmovdqu (%1), %%ymm7\n\tmov %2, %%eax\n\tsyscall\n\t"
			     "vmovdqu %%ymm7, (%0)"
			     : : "r" (out), "r" (in), "i" (SYS_sched_yield)
			     : "rax", "rcx", "r11", "xmm7", "memory");
		ok = !memcmp(in, out, sizeof(in));
	}
	if (!pid)
		_exit(ok ? 0 : 1);
	check(ok && exit_of(pid) == 0, "each process has its own vector registers");
}

/* A tracer. */

static void test_ptrace(void)
{
	struct user_regs_struct regs;
	struct user_fpregs_struct fp;
	static volatile long target = 42;
	int status, steps = 0;
	long word;
	pid_t pid = fork();

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		asm volatile("nop; nop; nop; nop");
		syscall(SYS_getppid);
		_exit(target == 43 ? 11 : 12);
	}
	waitpid(pid, &status, 0);
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "a traced child stops");
	check(ptrace(PTRACE_GETREGS, pid, 0, &regs) == 0 && regs.rsp && regs.cs == 0x33,
	      "PTRACE_GETREGS");
	check(ptrace(PTRACE_GETFPREGS, pid, 0, &fp) == 0 && fp.mxcsr == 0x1f80, "PTRACE_GETFPREGS");
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, &target, 0);
	check(word == 42 && !errno, "PTRACE_PEEKDATA");
	check(ptrace(PTRACE_POKEDATA, pid, &target, 43) == 0, "PTRACE_POKEDATA");
	for (steps = 0; steps < 20; steps++) {
		unsigned long before = regs.rip;

		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
		if (regs.rip == before)
			break;
	}
	check(steps == 20, "twenty single steps");
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD);
	do {
		ptrace(PTRACE_SYSCALL, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status))
			break;
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
	} while (WSTOPSIG(status) != (SIGTRAP | 0x80) || regs.orig_rax != SYS_getppid);
	check(WIFSTOPPED(status) && (long)regs.rax == -ENOSYS, "PTRACE_SYSCALL stops at the entry");
	ptrace(PTRACE_SYSCALL, pid, 0, 0);
	waitpid(pid, &status, 0);
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	check((pid_t)regs.rax == getpid(), "and at the exit with the result");
	ptrace(PTRACE_CONT, pid, 0, 0);
	check(exit_of(pid) == 11, "the child goes on with what was poked");
}

/* Facilities that touch the architecture's code on the way. */

static int deep(int n)
{
	volatile char here[4096];

	here[0] = n;
	return n ? deep(n - 1) + here[0] - (char)n : 0;
}

static void test_facilities(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(*code), code };
	struct timespec nap = { .tv_nsec = 300000000 }, a, b, c;
	struct user_regs_struct regs;
	volatile int *shm;
	int id, status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(2);
		_exit(syscall(SYS_getppid) == -1 && errno == 77 && getpid() > 1 ? 0 : 1);
	}
	check(exit_of(pid) == 0, "a seccomp filter answers a system call");

	id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
	shm = shmat(id, NULL, 0);
	pid = fork();
	if (!pid) {
		shm[5] = 55;
		_exit(0);
	}
	exit_of(pid);
	check(shm[5] == 55, "System V shared memory");
	shmdt((void *)shm);
	shmctl(id, IPC_RMID, NULL);

	/* Stopped and continued in its sleep, a program sleeps on. */
	pid = fork();
	if (!pid) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		status = nanosleep(&nap, NULL);
		clock_gettime(CLOCK_MONOTONIC, &b);
		_exit(status || b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9 < 0.3);
	}
	usleep(50000);
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	kill(pid, SIGCONT);
	check(WIFSTOPPED(status) && exit_of(pid) == 0, "a sleep goes on after SIGSTOP and SIGCONT");

	clock_gettime(CLOCK_MONOTONIC, &a);
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b);
	clock_gettime(CLOCK_MONOTONIC, &c);
	check((a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec <= b.tv_nsec)) &&
	      (b.tv_sec < c.tv_sec || (b.tv_sec == c.tv_sec && b.tv_nsec <= c.tv_nsec)),
	      "the clocks of the vDSO and of the kernel agree");
	check(deep(1500) == 0, "a stack that grows by six megabytes");

	pid = fork();
	if (!pid)
		for (;;)
			;
	check(ptrace(PTRACE_ATTACH, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid &&
	      WIFSTOPPED(status), "PTRACE_ATTACH stops a spinning process");
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	regs.rip = (unsigned long)_exit;
	regs.rdi = 9;
	regs.rsp = (regs.rsp & ~15ul) - 8;
	check(ptrace(PTRACE_SETREGS, pid, 0, &regs) == 0, "PTRACE_SETREGS");
	ptrace(PTRACE_DETACH, pid, 0, 0);
	check(exit_of(pid) == 9, "and it goes on where it was sent");

	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWPID | CLONE_NEWNS))
			_exit(errno == EPERM ? 0 : 1);
		pid = fork();
		if (!pid)
			_exit(getpid() == 1 ? 0 : 1);
		_exit(exit_of(pid));
	}
	check(exit_of(pid) == 0, "the first process of a PID name space is 1");
}

static void test_memory(void)
{
	size_t n = 2048, i;
	char *p = pages(n, PROT_READ | PROT_WRITE), *q;
	bool ok = true;

	for (i = 0; i < n; i++)
		p[i * PAGE] = i;
	q = mremap(p, n * PAGE, 2 * n * PAGE, MREMAP_MAYMOVE);
	for (i = 0; i < n; i++)
		ok &= q[i * PAGE] == (char)i;
	check(ok && q[(2 * n - 1) * PAGE] == 0, "mremap keeps the contents");
	madvise(q, n * PAGE, MADV_DONTNEED);
	for (i = 0, ok = true; i < n; i++)
		ok &= q[i * PAGE] == 0;
	check(ok, "MADV_DONTNEED takes them away");
	munmap(q, 2 * n * PAGE);
	check((uintptr_t)&i > 0x100000000000, "addresses of 47 bits");
}

static uintptr_t low(uintptr_t hint, size_t bytes, int flags)
{
	void *p = mmap((void *)hint, bytes, PROT_READ,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | flags, -1, 0);

	return (uintptr_t)p;
}

static bool is_low(uintptr_t address)
{
	return address >= 0x40000000 && address < 0x80000000;
}

static void test_map_32bit(void)
{
	uintptr_t first = low(0, PAGE, 0), hinted = low(0x50000000, PAGE, 0);

	check(is_low(first), "MAP_32BIT gives an address in the second GiB");
	check(hinted == 0x50000000, "or where it is asked for");
	check(is_low(low(0x50000000, PAGE, 0)) && is_low(low(0x200000000, PAGE, 0)),
	      "not where something is, nor above");
	check(low(0, 0x40000000, 0) == (uintptr_t)MAP_FAILED && errno == ENOMEM,
	      "and no more than there is room for");
	check(low(0x200000000, PAGE, MAP_FIXED) == 0x200000000, "MAP_FIXED goes anywhere");
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--exit"))
		return atoi(argv[2]);
	if (getpid() == 1) {
		mkdir("/proc", 0755);
		mount("proc", "/proc", "proc", 0, NULL);
	}
	test_faults();
	test_user_copies();
	test_memory();
	test_map_32bit();
	test_fork();
	test_threads();
	test_signals();
	test_extended_state();
	test_ptrace();
	test_facilities();
	printf("1..%d\n# %d failures\n", number, failures);
	fflush(stdout);
	if (getpid() == 1) {
		sync();
		reboot(RB_POWER_OFF);
	}
	return failures > 100 ? 100 : failures;
}
