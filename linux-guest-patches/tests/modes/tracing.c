// SPDX-License-Identifier: GPL-2.0
/* A tracer that steps, and one that answers system calls itself. */
#include "modes.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#ifndef PTRACE_SYSEMU_SINGLESTEP
#define PTRACE_SYSEMU_SINGLESTEP	32
#endif
#ifndef PTRACE_SINGLEBLOCK
#define PTRACE_SINGLEBLOCK		33
#endif
#ifndef TRAP_BRKPT
#define TRAP_BRKPT	1
#define TRAP_TRACE	2
#endif

#define UNKNOWN_CALL	9999
#define STEPPED_END	0x5e1f

static pid_t start(int (*child)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(child());
	}
	waitpid(pid, &status, 0);
	EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP,
	       "it begins with %#x", status);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* One request and its stop by SIGTRAP; what stopped it is in *info. */
static bool go(int request, pid_t pid, siginfo_t *info, struct user_regs_struct *regs)
{
	int status;

	if (ptrace(request, pid, 0, 0)) {
		EXPECT(0, "request %d: %s", request, strerror(errno));
		return false;
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != SIGTRAP) {
		EXPECT(0, "request %d ended with %#x", request, status);
		return false;
	}
	ptrace(PTRACE_GETSIGINFO, pid, 0, info);
	ptrace(PTRACE_GETREGS, pid, 0, regs);
	return true;
}

static int stepped(void)
{
	long pid;

	asm volatile("mov %1, %%eax\n\t"
		     "syscall\n\t"
		     "mov %2, %%ebx\n\t"
		     "nop"
		     : "=&a" (pid)
		     : "i" (SYS_getpid), "i" (STEPPED_END)
		     : "rcx", "r11", "rbx", "memory");
	return 0;
}

/* A step over a system call is reported as any other, with where and why. */
static void single_steps(void)
{
	pid_t pid = start(stepped);
	struct user_regs_struct regs = { 0 };
	siginfo_t info;
	int behind_call = 0;

	for (int i = 0; i < 5000 && regs.rbx != STEPPED_END; i++) {
		unsigned long before = regs.rip;
		unsigned long code = ptrace(PTRACE_PEEKTEXT, pid, before, 0);
		bool call = before && (code & 0xffff) == 0x050f;

		if (!go(PTRACE_SINGLESTEP, pid, &info, &regs))
			break;
		EXPECT(info.si_code == TRAP_TRACE || info.si_code == TRAP_BRKPT,
		       "si_code %d", info.si_code);
		EXPECT((unsigned long)info.si_addr == regs.rip,
		       "si_addr %p, rip %llx", info.si_addr, regs.rip);
		EXPECT(!(regs.eflags & 0x100), "TF is visible");
		if (call && regs.rip == before + 2)
			behind_call++;
		if (wrong)
			break;
	}
	EXPECT(regs.rbx == STEPPED_END, "it never came to the end");
	EXPECT(behind_call > 0, "no step ended behind a system call");
	end(pid);
}

static int emulated(void)
{
	long first = syscall(SYS_getppid), second = syscall(UNKNOWN_CALL, 1, 2, 3);

	syscall(SYS_exit_group, first == 4242 && second == 77 ? 0 : 1);
	return 9;
}

/* No call is made, and each has the result that the tracer gave it. */
static void emulation(int request)
{
	pid_t pid = start(emulated);
	struct user_regs_struct regs = { 0 };
	siginfo_t info;
	bool ended = false;
	int calls = 0;

	for (int i = 0; i < 5000 && !ended; i++) {
		if (!go(request, pid, &info, &regs))
			break;
		switch (regs.orig_rax) {
		case SYS_getppid:
			EXPECT((long)regs.rax == -ENOSYS, "rax %llx", regs.rax);
			regs.rax = 4242;
			calls++;
			break;
		case UNKNOWN_CALL:
			EXPECT(regs.rdi == 1 && regs.rsi == 2 && regs.rdx == 3,
			       "arguments");
			regs.rax = 77;
			calls++;
			break;
		case SYS_exit_group:
			EXPECT(regs.rdi == 0, "it has not seen the results");
			ended = true;
			break;
		}
		ptrace(PTRACE_SETREGS, pid, 0, &regs);
	}
	EXPECT(ended && calls == 2, "%d calls, ended %d", calls, ended);
	end(pid);

	/* With PTRACE_CONT the calls are made again. */
	pid = start(emulated);
	go(request, pid, &info, &regs);
	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &calls, 0);
	EXPECT(WIFEXITED(calls) && WEXITSTATUS(calls) == 1, "it ended with %#x",
	       calls);
}

/* As on a processor that cannot trap at branches; others do it. */
static void block_steps(void)
{
	pid_t pid = start(stepped);
	int status;

	if (ptrace(PTRACE_SINGLEBLOCK, pid, 0, 0)) {
		EXPECT(errno == EIO, "SINGLEBLOCK: %s", strerror(errno));
	} else {
		waitpid(pid, &status, 0);
		EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP,
		       "SINGLEBLOCK ended with %#x", status);
	}
	end(pid);
}

int main(void)
{
	single_steps();
	emulation(PTRACE_SYSEMU);
	emulation(PTRACE_SYSEMU_SINGLESTEP);
	block_steps();
	return wrong;
}
