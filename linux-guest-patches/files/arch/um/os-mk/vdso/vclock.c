// SPDX-License-Identifier: GPL-2.0
/*
 * The time of day without a system call: generic code on the port's counter
 * (asm/vdso/gettimeofday.h). Also which CPU this is.
 */
#define DISABLE_BRANCH_PROFILING

#include <linux/time.h>
#include <linux/kernel.h>
#include <linux/types.h>
#include <linux/getcpu.h>
#include <vdso/gettime.h>

#include "../../../../lib/vdso/gettimeofday.c"

int __vdso_clock_gettime(clockid_t clock, struct __kernel_timespec *ts)
{
	return __cvdso_clock_gettime(clock, ts);
}

int __vdso_clock_getres(clockid_t clock, struct __kernel_timespec *res)
{
	return __cvdso_clock_getres(clock, res);
}

int __vdso_gettimeofday(struct __kernel_old_timeval *tv, struct timezone *tz)
{
	return __cvdso_gettimeofday(tv, tz);
}

__kernel_old_time_t __vdso_time(__kernel_old_time_t *t)
{
	return __cvdso_time(t);
}

long __vdso_getcpu(unsigned int *cpu, unsigned int *node,
		   struct getcpu_cache *unused);

long __vdso_getcpu(unsigned int *cpu, unsigned int *node,
		   struct getcpu_cache *unused)
{
	u32 low, high, core;

	asm volatile("rdtscp" : "=a" (low), "=d" (high), "=c" (core));
	if (cpu)
		*cpu = _vdso_data->arch_data.cpu_of_core[core % VDSO_CORES];
	if (node)
		*node = 0;
	return 0;
}

/* The names without a prefix are what a C library may bind to. */
int __weak __alias(__vdso_clock_gettime)
clock_gettime(clockid_t clock, struct __kernel_timespec *ts);
int __weak __alias(__vdso_clock_getres)
clock_getres(clockid_t clock, struct __kernel_timespec *res);
int __weak __alias(__vdso_gettimeofday)
gettimeofday(struct __kernel_old_timeval *tv, struct timezone *tz);
__kernel_old_time_t __weak __alias(__vdso_time)
time(__kernel_old_time_t *t);
long __weak __alias(__vdso_getcpu)
getcpu(unsigned int *cpu, unsigned int *node, struct getcpu_cache *unused);
