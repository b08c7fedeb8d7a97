// SPDX-License-Identifier: GPL-2.0
/* Time: the TSC says what it is, the vCPU's timer when to wake. */

#include <linux/clockchips.h>
#include <linux/clocksource.h>
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/math64.h>
#include <linux/percpu.h>
#include <linux/sched/clock.h>
#include <linux/timekeeping.h>
#include <linux/timex.h>
#include <asm/mk.h>
#include "os-mk.h"

static u64 boot_tsc __ro_after_init;
static u32 ns_mult __ro_after_init, ns_shift __ro_after_init;

unsigned long long notrace sched_clock(void)
{
	return mul_u64_u32_shr(mk_rdtsc() - boot_tsc, ns_mult, ns_shift);
}

static u64 notrace tsc_read(struct clocksource *cs)
{
	return mk_rdtsc();
}

static struct clocksource tsc_clocksource = {
	.name		= "tsc",
	.rating		= 400,
	.read		= tsc_read,
	.mask		= CLOCKSOURCE_MASK(64),
	.flags		= CLOCK_SOURCE_IS_CONTINUOUS | CLOCK_SOURCE_VALID_FOR_HRES,
#ifdef CONFIG_GENERIC_GETTIMEOFDAY
	.vdso_clock_mode = VDSO_CLOCKMODE_TSC,
#endif
};

static int set_deadline(u64 tsc)
{
	return mk_invoke_status(MK_LINUX_CAP_VCPU + smp_processor_id(),
				MK_THREAD_TIMER, tsc, 0, 0, 0);
}

static int timer_stop(struct clock_event_device *evt)
{
	return set_deadline(0);
}

static int timer_next_event(unsigned long ticks, struct clock_event_device *evt)
{
	return set_deadline(mk_rdtsc() + ticks);
}

static DEFINE_PER_CPU(struct clock_event_device, timer_event);

static void timer_interrupt(unsigned int bit)
{
	struct clock_event_device *event = this_cpu_ptr(&timer_event);

	event->event_handler(event);
}

/* This CPU's own. */
void mk_timer_start(void)
{
	struct clock_event_device *event = this_cpu_ptr(&timer_event);

	event->name = "vcpu";
	event->features = CLOCK_EVT_FEAT_ONESHOT;
	event->rating = 400;
	event->set_state_shutdown = timer_stop;
	event->set_state_oneshot_stopped = timer_stop;
	event->set_next_event = timer_next_event;
	event->cpumask = cpumask_of(smp_processor_id());
	/* At least a microsecond: a system call takes longer. */
	clockevents_config_and_register(event, mk_boot->tsc_hz,
					div_u64(mk_boot->tsc_hz, USEC_PER_SEC) + 1,
					LONG_MAX);
}

void read_persistent_clock64(struct timespec64 *ts)
{
	*ts = ns_to_timespec64(mk_boot->wall_ns_at_tsc0 +
			       mul_u64_u64_div_u64(mk_rdtsc(), NSEC_PER_SEC,
						   mk_boot->tsc_hz));
}

void __init time_init(void)
{
	boot_tsc = mk_rdtsc();
	clocks_calc_mult_shift(&ns_mult, &ns_shift, mk_boot->tsc_hz, NSEC_PER_SEC, 0);
	lpj_fine = div_u64(mk_boot->tsc_hz, HZ);

	clocksource_register_hz(&tsc_clocksource, mk_boot->tsc_hz);
	mk_bit_handler(MK_PENDING_TIMER_BIT, timer_interrupt);
	mk_timer_start();
}

/* Delays: a loop is one tick of the TSC (lpj_fine). */

void __delay(unsigned long loops)
{
	u64 start = mk_rdtsc();

	while (mk_rdtsc() - start < loops)
		cpu_relax();
}
EXPORT_SYMBOL(__delay);

void __const_udelay(unsigned long xloops)
{
	__delay(mul_u64_u64_shr(xloops, loops_per_jiffy * HZ, 32));
}
EXPORT_SYMBOL(__const_udelay);

void __udelay(unsigned long usecs)
{
	__const_udelay(usecs * 0x10c7ul); /* 2**32 / 1000000 */
}
EXPORT_SYMBOL(__udelay);

void __ndelay(unsigned long nsecs)
{
	__const_udelay(nsecs * 5ul); /* 2**32 / 1000000000 */
}
EXPORT_SYMBOL(__ndelay);
