// SPDX-License-Identifier: GPL-2.0
/* What Linux on x86 makes of instructions and calls that touch the processor. */
#include "modes.h"
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#define ARCH_GET_CPUID		0x1011
#define ARCH_SET_CPUID		0x1012
#define ARCH_GET_XCOMP_SUPP	0x1021
#define ARCH_REQ_XCOMP_PERM	0x1023

static sigjmp_buf jump;
static siginfo_t fault;
static volatile unsigned long fault_error;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	fault = *info;
	fault_error = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
	siglongjmp(jump, 1);
}

static bool has_umip(void)
{
	unsigned int a, b, c = 0, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & 4;
}

static void test_umip(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; uint16_t after; } t[4];
	static struct __attribute__((packed)) { uint16_t limit; uint64_t base; } fixed;
	uint64_t value = ~0ul, high = ~0ul;
	uint16_t word = 0xffff;
	long index = 2;

	if (!has_umip())
		return;
	memset(t, 0xff, sizeof(t));
	asm volatile("sgdt %0" : "=m" (t[0]));
	EXPECT(t[0].limit == 0 && t[0].base == 0xfffffffffffe0000 && t[0].after == 0xffff,
	       "sgdt: %x %lx", t[0].limit, t[0].base);
	asm volatile("sidt (%0,%1,4)" : : "r" ((char *)t + 16), "r" (index) : "memory");
	EXPECT(t[2].limit == 0 && t[2].base == 0xffffffffffff0000, "sidt: %x %lx", t[2].limit, t[2].base);
	asm volatile("sgdt %0" : "=m" (fixed));
	EXPECT(fixed.base == 0xfffffffffffe0000, "sgdt of a static variable: %lx", fixed.base);
	asm volatile("mov %1, %%r13\n\tsidt 0x7fffffff(%%r13)\n\t"
		     : : "i" (0), "r" ((char *)&t[1] - 0x7fffffff) : "r13", "memory");
	EXPECT(t[1].base == 0xffffffffffff0000, "sidt with a long displacement: %lx", t[1].base);
	asm volatile("smsw %0" : "=r" (value));
	EXPECT((value & 0xffffffff) == 0x80050033, "smsw: %lx", value);
	asm volatile("smsw %w0" : "+r" (high));
	EXPECT(high == 0xffffffffffff0033, "smsw of 16 bits: %lx", high);
	asm volatile("mov $-1, %%r14\n\tsmsw %%r14\n\tmov %%r14, %0" : "=r" (value) : : "r14");
	EXPECT(value == 0x80050033, "smsw of r14: %lx", value);
	asm volatile("smsw %0" : "=m" (word));
	EXPECT(word == 0x33, "smsw to memory: %x", word);
	asm volatile("sldt %0" : "=m" (word));
	EXPECT(word == 0, "sldt: %x", word);
	asm volatile("str %w0" : "=r" (value));
	EXPECT((value & 0xffff) == 0x40, "str: %lx", value);

	sigaction(SIGSEGV, &sa, NULL);
	if (!sigsetjmp(jump, 1)) {
		asm volatile("sgdt (%0)" : : "r" (8L) : "memory");
		EXPECT(0, "sgdt to nowhere passed");
	} else {
		EXPECT(fault.si_code == SEGV_MAPERR && fault.si_addr == (void *)8,
		       "sgdt to nowhere: code %d at %p", fault.si_code, fault.si_addr);
	}
	if (!sigsetjmp(jump, 1)) {
		asm volatile("hlt");
		EXPECT(0, "hlt passed");
	}
	signal(SIGSEGV, SIG_DFL);
}

static void test_calls(void)
{
	uint64_t features = 0;
	int mode = 0;
	char *mem = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0) == 1, "ARCH_GET_CPUID");
	/* Where the processor cannot make CPUID fault, it is refused. */
	EXPECT(!syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1) || errno == ENODEV,
	       "ARCH_SET_CPUID: %s", strerror(errno));
	EXPECT(!syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &features) && (features & 3) == 3,
	       "ARCH_GET_XCOMP_SUPP: %lx", features);
	EXPECT(syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, 2) == -1 && errno == EOPNOTSUPP,
	       "ARCH_REQ_XCOMP_PERM: %s", strerror(errno));
	EXPECT(syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, 64) == -1 && errno == EINVAL,
	       "ARCH_REQ_XCOMP_PERM of nothing: %s", strerror(errno));
	EXPECT(!prctl(PR_GET_TSC, &mode) && mode == PR_TSC_ENABLE, "PR_GET_TSC: %d", mode);
	EXPECT(!prctl(PR_SET_TSC, PR_TSC_ENABLE), "PR_SET_TSC: %s", strerror(errno));
	EXPECT(getauxval(AT_HWCAP2) & 2, "AT_HWCAP2 is %lx", getauxval(AT_HWCAP2));
	EXPECT(!syscall(SYS_pkey_mprotect, mem, 4096, PROT_READ | PROT_WRITE, -1) && (mem[0] = 1),
	       "pkey_mprotect without a key: %s", strerror(errno));
	EXPECT(syscall(SYS_pkey_alloc, 1, 0) == -1 && errno == EINVAL, "pkey_alloc with flags: %s",
	       strerror(errno));
	EXPECT(syscall(SYS_pkey_alloc, 0, 4) == -1 && errno == EINVAL, "pkey_alloc with rights 4: %s",
	       strerror(errno));
	EXPECT(syscall(SYS_pkey_free, 15) == -1 && errno == EINVAL, "pkey_free: %s", strerror(errno));
}

static long call_number(unsigned long rax)
{
	long result;

	asm volatile("syscall" : "=a" (result) : "a" (rax) : "rcx", "r11", "memory");
	return result;
}

/* The number of a call is in the lower half of the register, and signed. */
static void test_numbers(void)
{
	static const unsigned long none[] = {
		-1ul, 0xffffffff, 0x80000000, 0x40000000 + SYS_getpid, 0x7fffffff00000fff
	};
	unsigned int i;

	EXPECT(call_number(0x100000000 + SYS_getpid) == getpid(), "getpid with more above it: %ld",
	       call_number(0x100000000 + SYS_getpid));
	for (i = 0; i < sizeof(none) / sizeof(*none); i++)
		EXPECT(call_number(none[i]) == -ENOSYS, "call %lx: %ld", none[i],
		       call_number(none[i]));
}

/* A fault does not tell what the kernels have mapped. */
static void test_beyond(void)
{
	static const unsigned long beyond[] = {
		0xffffffff81000000, 0xffff800000000000, 0xffff888000000000, 0xffffffffffffe000
	};
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	volatile unsigned int i;

	sigaction(SIGSEGV, &sa, NULL);
	for (i = 0; i < sizeof(beyond) / sizeof(*beyond); i++) {
		if (!sigsetjmp(jump, 1)) {
			*(volatile char *)beyond[i];
			EXPECT(0, "a read of %lx passed", beyond[i]);
		}
		EXPECT(fault.si_code == SEGV_MAPERR && fault_error == 5,
		       "a read of %lx: code %d, error %lx", beyond[i], fault.si_code, fault_error);
	}
	signal(SIGSEGV, SIG_DFL);
}

int main(void)
{
	test_umip();
	test_beyond();
	test_calls();
	test_numbers();
	return wrong;
}
