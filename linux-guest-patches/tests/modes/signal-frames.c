// SPDX-License-Identifier: GPL-2.0
/*
 * Signal frames: a handler begins with clean control words, a frame that does
 * not fit an alternate stack is never written, and a return from a frame, or a
 * tracer's write, whose extended state no processor would load is refused.
 */
#include "modes.h"
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <ucontext.h>

#define NT_X86_XSTATE	0x202
#define PAGE		4096ul
#define OFFSET_MXCSR	24
#define OFFSET_XMM	160
#define OFFSET_SW	464
#define OFFSET_HEADER	512

static uint32_t mxcsr(void)
{
	uint32_t value;

	asm volatile("stmxcsr %0" : "=m" (value));
	return value;
}

static uint16_t fcw(void)
{
	uint16_t value;

	asm volatile("fnstcw %0" : "=m" (value));
	return value;
}

static void set_words(uint32_t sse, uint16_t x87)
{
	asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m" (sse), "m" (x87));
}

static volatile uint32_t seen_mxcsr, frame_mxcsr;
static volatile uint16_t seen_fcw;

static void look(int sig, siginfo_t *info, void *context)
{
	seen_mxcsr = mxcsr();
	seen_fcw = fcw();
	frame_mxcsr = ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
	set_words(0x5f80, 0xb7f);
}

static void on_signal(void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	sigaction(SIGUSR1, &sa, NULL);
}

static void test_control_words(void)
{
	on_signal(look, 0);
	set_words(0xffc0, 0x77f);
	raise(SIGUSR1);
	EXPECT(mxcsr() == 0xffc0 && fcw() == 0x77f, "afterwards %x %x", mxcsr(), fcw());
	set_words(0x1f80, 0x37f);
	EXPECT(seen_mxcsr == 0x1f80 && seen_fcw == 0x37f, "a handler begins with %x %x",
	       seen_mxcsr, seen_fcw);
	EXPECT(frame_mxcsr == 0xffc0, "its frame has MXCSR %x", frame_mxcsr);
}

/* Status of a child that raises SIGUSR1 with this handler. */
static int child(void (*handler)(int, siginfo_t *, void *), int flags)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		on_signal(handler, flags);
		raise(SIGUSR1);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void nothing(int sig, siginfo_t *info, void *context)
{
}

static void test_small_stack(void)
{
	char *mem = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	size_t i, written = 0;
	/* Of the allowed size; the frame with the extended state is larger. */
	stack_t small = { .ss_sp = mem + 3 * PAGE - 2048, .ss_size = 2048 };
	stack_t large = { .ss_sp = mem, .ss_size = 4 * PAGE }, off = { .ss_flags = SS_DISABLE };
	int status;

	EXPECT(!sigaltstack(&small, NULL), "sigaltstack: %s", strerror(errno));
	status = child(nothing, SA_ONSTACK);
	for (i = 0; i < 3 * PAGE - 2048; i++)
		written += mem[i] != 0;
	EXPECT(!written, "%zu bytes below the alternate stack were written", written);
	/* Only with AVX-512 is a frame larger than the smallest stack. */
	EXPECT(!__builtin_cpu_supports("avx512f") || status == SIGSEGV, "status %#x", status);
	EXPECT(!sigaltstack(&large, NULL), "sigaltstack: %s", strerror(errno));
	status = child(nothing, SA_ONSTACK);
	EXPECT(!status, "on a stack that is large enough: %#x", status);
	sigaltstack(&off, NULL);
	munmap(mem, 4 * PAGE);
}

static uint8_t *fp_of(void *context)
{
	return (uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs;
}

static void bad_mxcsr(int sig, siginfo_t *info, void *context)
{
	*(uint32_t *)(fp_of(context) + OFFSET_MXCSR) = 0xffff0000;
}

static void bad_feature(int sig, siginfo_t *info, void *context)
{
	*(uint64_t *)(fp_of(context) + OFFSET_HEADER) |= 1ull << 62;
}

static void bad_form(int sig, siginfo_t *info, void *context)
{
	*(uint64_t *)(fp_of(context) + OFFSET_HEADER + 8) = 1ull << 63;
}

/* The area ends in the midst of what it says it has. */
static void cut_off(int sig, siginfo_t *info, void *context)
{
	uint8_t *mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *fp = mem + PAGE - 576;

	memcpy(fp, fp_of(context), 576);
	memset(fp + OFFSET_XMM, 0xff, 256);
	munmap(mem + PAGE, PAGE);
	((ucontext_t *)context)->uc_mcontext.fpregs = (void *)fp;
}

static void unaligned(int sig, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.fpregs = (void *)(fp_of(context) + 8);
}

static void nowhere(int sig, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.fpregs = (void *)0x1000;
}

static void no_code_segment(int sig, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_CSGSFS] = 0;
}

static void none(int sig, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.fpregs = NULL;
}

static void test_refused(void)
{
	static const struct {
		const char *what;
		void (*handler)(int, siginfo_t *, void *);
	} bad[] = {
		{ "bits of MXCSR that do not exist", bad_mxcsr },
		{ "a component that does not exist", bad_feature },
		{ "the compacted form", bad_form },
		{ "an area that is cut off", cut_off },
		{ "an area that is not there", nowhere },
		{ "an area that is not aligned", unaligned },
		{ "no code segment", no_code_segment },
	};
	unsigned int i;
	int status;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		status = child(bad[i].handler, 0);
		EXPECT((status & 0x7f) == SIGSEGV, "%s: status %#x", bad[i].what, status);
	}
	status = child(none, 0);
	EXPECT(!status, "no area at all: status %#x", status);
}

static volatile int legacy_only;

static void change(int sig, siginfo_t *info, void *context)
{
	uint8_t *fp = fp_of(context);

	memset(fp + OFFSET_XMM + 16 * 7, 0x77, 16);
	*(uint32_t *)(fp + OFFSET_MXCSR) = 0x9f80;
	if (legacy_only)
		*(uint32_t *)(fp + OFFSET_SW) = 0;
}

static void test_changed(void)
{
	unsigned char out[32];
	int i;

	if (!__builtin_cpu_supports("avx"))
		return;
	on_signal(change, 0);
	for (legacy_only = 0; legacy_only < 2; legacy_only++) {
		asm volatile("vpcmpeqd %%xmm7, %%xmm7, %%xmm7\n\tvinsertf128 $1, %%xmm7, %%ymm7, %%ymm7\n\t"
			     "syscall\n\tvmovdqu %%ymm7, (%0)\n\tvzeroupper"
			     : : "r" (out), "a" (62), "D" ((long)getpid()), "S" ((long)SIGUSR1)
			     : "rcx", "r11", "xmm7", "memory");
		for (i = 0; i < 16; i++)
			if (out[i] != 0x77 || out[16 + i] != (legacy_only ? 0 : 0xff))
				break;
		EXPECT(i == 16, "a handler's change of xmm7 (%d): %02x %02x", legacy_only, out[0], out[16]);
		EXPECT(mxcsr() == 0x9f80, "a handler's change of MXCSR: %x", mxcsr());
		set_words(0x1f80, 0x37f);
	}
}

static long set_area(pid_t pid, void *area, size_t size)
{
	struct iovec iov = { area, size };

	return ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov) ? errno : 0;
}

static void test_tracer(void)
{
	static uint8_t area[16384], again[16384];
	struct iovec iov = { area, sizeof(area) };
	struct user_fpregs_struct fp;
	uint64_t *header = (uint64_t *)(area + OFFSET_HEADER);
	uint64_t features;
	pid_t pid = fork();
	int status;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		set_words(0xdf80, 0x77f);
		raise(SIGSTOP);
		_exit(mxcsr() == 0xdf80 && fcw() == 0x77f ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	EXPECT(!ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov), "GETREGSET: %s", strerror(errno));
	memcpy(again, area, sizeof(area));
	features = header[0];
	EXPECT(*(uint32_t *)(area + OFFSET_MXCSR) == 0xdf80, "it shows MXCSR %x",
	       *(uint32_t *)(area + OFFSET_MXCSR));

	EXPECT(set_area(pid, area, 576) == EFAULT, "an area that is too short");
	header[0] = features | 1ull << 62;
	EXPECT(set_area(pid, area, iov.iov_len) == EINVAL, "a component that does not exist");
	header[0] = features;
	header[1] = 1ull << 63;
	EXPECT(set_area(pid, area, iov.iov_len) == EINVAL, "the compacted form");
	header[1] = 0;
	header[7] = 1;
	EXPECT(set_area(pid, area, iov.iov_len) == EINVAL, "reserved bytes");
	header[7] = 0;
	header[0] = features | 3;
	*(uint32_t *)(area + OFFSET_MXCSR) = 0xffff0000;
	EXPECT(set_area(pid, area, iov.iov_len) == EINVAL, "a bad MXCSR");

	EXPECT(!ptrace(PTRACE_GETFPREGS, pid, 0, &fp), "GETFPREGS: %s", strerror(errno));
	fp.mxcsr = 0xffff0000;
	EXPECT(ptrace(PTRACE_SETFPREGS, pid, 0, &fp) == -1 && errno == EINVAL, "a bad MXCSR by SETFPREGS");

	EXPECT(!ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov) && !memcmp(area, again, OFFSET_SW),
	       "what was refused was written");
	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &status, 0);
	EXPECT(!status, "the traced child ends with %#x", status);
}

int main(void)
{
	test_control_words();
	test_small_stack();
	test_refused();
	test_changed();
	test_tracer();
	return wrong;
}
