/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_TIMEX_H
#define __UM_TIMEX_H

#include <linux/types.h>

/* The TSC: constant rate and the same on all cores, which the kernel checked. */
static __always_inline u64 mk_rdtsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a" (low), "=d" (high) : : "memory");
	return (u64)high << 32 | low;
}

#define get_cycles get_cycles
static inline unsigned long get_cycles(void)
{
	return mk_rdtsc();
}

#define CLOCK_TICK_RATE 1193182

#include <asm-generic/timex.h>

#endif
