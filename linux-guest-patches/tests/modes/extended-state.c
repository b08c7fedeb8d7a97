// SPDX-License-Identifier: GPL-2.0
/*
 * Whatever happens to a thread, its vector registers and control words are what
 * it left in them, or what a tracer wrote: every pair of a signal, a second one
 * that waits for the return from the first, a tracer's write, fork, exec, going
 * to a compute core and coming back, and giving way.
 */
#include "modes.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <linux/decouple.h>

#define NT_X86_XSTATE	0x202
#define OFFSET_MXCSR	24
#define OFFSET_XMM	160
#define OFFSET_YMM	576
#define ROUNDS		3

enum { SIGNAL, TWO_SIGNALS, TRACER, FORK, ATTACH, DETACH, YIELD, EXEC, EVENTS };
static const char *const names[EVENTS] = {
	"a signal", "two signals", "a tracer", "fork", "attach", "detach", "yield", "exec"
};

struct state {
	uint8_t ymm[16][32];
	uint32_t mxcsr;
	uint16_t fcw;
};

struct call {
	long nr, a, b, c;
};

static struct decouple_attach to_core = { .core = DECOUPLE_CORE_ANY };
static struct decouple_detach back;
static char *arguments[] = { "extended-state", "--started", NULL };
static int device;

/* The registers become @in; two calls are made; @out is what they are then. */
static void __attribute__((noinline)) around(const struct state *in, const struct call *calls,
					     struct state *out)
{
	asm volatile("ldmxcsr 512(%0)\n\tfldcw 516(%0)\n\t"
		     ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vmovdqu 32*\\r(%0), %%ymm\\r\n\t.endr\n\t"
		     "mov $2, %%r12d\n"
		     "1:\tmov (%1), %%rax\n\tmov 8(%1), %%rdi\n\tmov 16(%1), %%rsi\n\t"
		     "mov 24(%1), %%rdx\n\tsyscall\n\t"
		     /* A child makes no further call. */
		     "cmpq %3, (%1)\n\tjne 2f\n\tmov %%eax, %%r13d\n\ttest %%eax, %%eax\n\tjz 3f\n"
		     "2:\tadd $32, %1\n\tdec %%r12d\n\tjnz 1b\n"
		     "3:\tstmxcsr 512(%2)\n\tfnstcw 516(%2)\n\t"
		     ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vmovdqu %%ymm\\r, 32*\\r(%2)\n\t.endr\n\tvzeroupper"
		     : : "r" (in), "r" (calls), "r" (out), "i" (SYS_fork)
		     : "rax", "rcx", "rdx", "rsi", "rdi", "r11", "r12", "r13", "memory",
		       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
		       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void spoil(void)
{
	uint32_t mxcsr = 0x1f80 | 0x4000;
	uint16_t fcw = 0xf7f;

	asm volatile("ldmxcsr %0\n\tfldcw %1\n\tvzeroall" : : "m" (mxcsr), "m" (fcw)
		     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
		       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static struct state expected;
static volatile sig_atomic_t handled, frame_differs;

static void handler(int sig, siginfo_t *info, void *context)
{
	const uint8_t *frame = (void *)((ucontext_t *)context)->uc_mcontext.fpregs;
	int i;

	for (i = 0; i < 16; i++)
		if (memcmp(frame + OFFSET_XMM + 16 * i, expected.ymm[i], 16) ||
		    memcmp(frame + OFFSET_YMM + 16 * i, expected.ymm[i] + 16, 16))
			frame_differs = 1;
	handled++;
	spoil();
}

/* SIGUSR2 is blocked here: it comes when this returns, before anything else. */
static void first_handler(int sig, siginfo_t *info, void *context)
{
	handler(sig, info, context);
	syscall(SYS_kill, getpid(), SIGUSR2);
}

/* What the tracer makes of a state. */
static void invert(uint8_t *bytes, size_t n)
{
	while (n--)
		*bytes++ ^= 0x5a;
}

static struct call call_of(int event)
{
	switch (event) {
	case SIGNAL:
		return (struct call) { SYS_kill, getpid(), SIGUSR2 };
	case TWO_SIGNALS:
		return (struct call) { SYS_kill, getpid(), SIGUSR1 };
	case TRACER:
		return (struct call) { SYS_kill, getpid(), SIGSTOP };
	case FORK:
		return (struct call) { SYS_fork };
	case ATTACH:
		return (struct call) { SYS_ioctl, device, DECOUPLE_ATTACH, (long)&to_core };
	case DETACH:
		return (struct call) { SYS_ioctl, device, DECOUPLE_DETACH, (long)&back };
	case EXEC:
		return (struct call) { SYS_execve, (long)"/proc/self/exe", (long)arguments };
	default:
		return (struct call) { SYS_sched_yield };
	}
}

static bool same(const struct state *a, const struct state *b)
{
	return !memcmp(a->ymm, b->ymm, sizeof(a->ymm)) &&
	       (a->mxcsr & ~0x3fu) == (b->mxcsr & ~0x3fu) && a->fcw == b->fcw;
}

static void make_pattern(struct state *s, int seed)
{
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 32; j++)
			s->ymm[i][j] = seed * 37 + i * 32 + j;
	s->mxcsr = 0xdf80;
	s->fcw = 0x77f;
}

static void pair(int first, int second, int seed)
{
	struct call calls[2] = { call_of(first), call_of(second) };
	pid_t self = getpid();
	struct state in, out;
	int status;

	make_pattern(&in, seed);
	/* A signal is the first of the two, or finds what the first left. */
	expected = in;
	frame_differs = 0;
	if (first == TRACER)
		invert(expected.ymm[0], sizeof(expected.ymm));
	around(&in, calls, &out);
	if (first == TRACER)
		invert(in.ymm[0], sizeof(in.ymm));
	/* The first of two calls forked: its child did not make the second. */
	if (second == TRACER && (getpid() == self || first != FORK))
		invert(in.ymm[0], sizeof(in.ymm));
	if (getpid() != self)
		_exit(same(&in, &out) ? 0 : 1);
	EXPECT(same(&in, &out), "%s, then %s: other registers", names[first], names[second]);
	EXPECT(!frame_differs, "%s, then %s: a signal frame has others", names[first], names[second]);
	while (waitpid(-1, &status, 0) > 0)
		EXPECT(!status, "%s, then %s: a child has others (%#x)", names[first], names[second], status);
}

/* exec as the second: the new program begins with clean control words. */
static void pair_with_exec(int first)
{
	struct call calls[2] = { call_of(first), call_of(EXEC) };
	struct state in, out;
	int status;
	pid_t pid = fork();

	if (!pid) {
		calls[0] = call_of(first);
		make_pattern(&in, first);
		expected = in;
		around(&in, calls, &out);
		_exit(first == FORK && same(&in, &out) ? 0 : 99);
	}
	waitpid(pid, &status, 0);
	EXPECT(!status, "%s, then exec: %#x", names[first], status);
}

static int started(void)
{
	uint32_t mxcsr;
	uint16_t fcw;

	asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m" (mxcsr), "=m" (fcw));
	EXPECT(mxcsr == 0x1f80 && fcw == 0x37f, "a program begins with %x and %x", mxcsr, fcw);
	return wrong;
}

static void handlers(void)
{
	struct sigaction one = { .sa_sigaction = first_handler, .sa_flags = SA_SIGINFO };
	struct sigaction two = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigaddset(&one.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &one, NULL);
	sigaction(SIGUSR2, &two, NULL);
}

static int worker(void)
{
	int first, second, round;

	handlers();
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	for (round = 0; round < ROUNDS; round++)
		for (first = 0; first < EXEC; first++)
			for (second = 0; second < EXEC; second++)
				pair(first, second, round * 64 + first * 8 + second);
	for (first = 0; first < EXEC; first++)
		if (first != TRACER)
			pair_with_exec(first);
	EXPECT(handled > 0, "no handler ran");
	return wrong;
}

static bool rewrite(pid_t pid)
{
	static uint8_t area[16384];
	struct iovec iov = { area, sizeof(area) };

	if (ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov))
		return false;
	invert(area + OFFSET_XMM, 256);
	invert(area + OFFSET_YMM, 256);
	/* All that was written is in use. */
	*(uint64_t *)(area + 512) |= 7;
	return !ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov);
}

int main(int argc, char **argv)
{
	int status, sig;
	pid_t pid;

	if (argc > 1)
		return started();
	if (!__builtin_cpu_supports("avx")) {
		printf("no AVX: nothing is tested\n");
		return 1;
	}
	device = open("/dev/decouple", O_RDWR | O_CLOEXEC);
	pid = fork();
	if (!pid)
		_exit(worker());
	for (;;) {
		if (waitpid(pid, &status, 0) != pid)
			break;
		if (!WIFSTOPPED(status))
			break;
		sig = WSTOPSIG(status);
		if (sig == SIGSTOP) {
			EXPECT(rewrite(pid), "the tracer: %s", strerror(errno));
			sig = 0;
		}
		ptrace(PTRACE_CONT, pid, 0, sig);
	}
	EXPECT(WIFEXITED(status) && !WEXITSTATUS(status), "the worker ended with %#x", status);
	return wrong;
}
