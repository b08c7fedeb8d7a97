/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What lib/vdso/gettimeofday.c needs from the port: the counter, and the
 * system calls to fall back on.
 */
#ifndef __UM_VDSO_GETTIMEOFDAY_H
#define __UM_VDSO_GETTIMEOFDAY_H

#ifndef __ASSEMBLY__

#include <linux/types.h>
#include <uapi/linux/time.h>
#include <asm/unistd.h>

#define VDSO_HAS_TIME		1
#define VDSO_HAS_CLOCK_GETRES	1

static __always_inline long um_vdso_syscall2(long nr, unsigned long a,
					     unsigned long b)
{
	long ret;

	asm volatile("syscall"
		     : "=a" (ret)
		     : "0" (nr), "D" (a), "S" (b)
		     : "rcx", "r11", "memory");
	return ret;
}

static __always_inline long
clock_gettime_fallback(clockid_t clock, struct __kernel_timespec *ts)
{
	return um_vdso_syscall2(__NR_clock_gettime, clock, (unsigned long)ts);
}

static __always_inline long
gettimeofday_fallback(struct __kernel_old_timeval *tv, struct timezone *tz)
{
	return um_vdso_syscall2(__NR_gettimeofday, (unsigned long)tv,
				(unsigned long)tz);
}

static __always_inline long
clock_getres_fallback(clockid_t clock, struct __kernel_timespec *ts)
{
	return um_vdso_syscall2(__NR_clock_getres, clock, (unsigned long)ts);
}

/*
 * The only counter is the TSC. LFENCE keeps RDTSC from being executed before
 * the loads in front of it, among them that of the sequence count (Intel SDM
 * volume 2, RDTSC).
 */
static __always_inline u64 __arch_get_hw_counter(s32 clock_mode,
						 const struct vdso_data *vd)
{
	u32 low, high;

	asm volatile("lfence\n\trdtsc"
		     : "=a" (low), "=d" (high) : : "memory");
	return low | (u64)high << 32;
}

static __always_inline const struct vdso_data *__arch_get_vdso_data(void)
{
	return _vdso_data;
}

/*
 * Two cores' TSCs may differ by some ticks: a core that is behind the one
 * which last updated the data would see a negative delta, hence time going
 * backwards by the whole range. It gets the time of the update instead.
 */
static __always_inline u64 vdso_calc_ns(const struct vdso_data *vd,
					u64 cycles, u64 base)
{
	s64 delta = cycles - vd->cycle_last;

	if (unlikely(delta < 0))
		delta = 0;
	return ((u64)delta * vd->mult + base) >> vd->shift;
}
#define vdso_calc_ns vdso_calc_ns

#endif /* !__ASSEMBLY__ */

#endif /* __UM_VDSO_GETTIMEOFDAY_H */
