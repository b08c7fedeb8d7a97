// SPDX-License-Identifier: GPL-2.0
/*
 * More than one CPU: how a vCPU is started, and how CPUs interrupt one another.
 * Each vCPU has a core of its own, and a page and a timer in the microkernel.
 * An interrupt is a signal: a bit of the other vCPU's `pending`.
 */

#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/hotplug.h>
#include <linux/sched/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include <asm/mk.h>
#include <asm/timex.h>
#include "os-mk.h"

/* How long a core may take from its start to Linux's idle loop. */
#define START_SECONDS	10

/* Capabilities that set one bit of one vCPU's `pending`. */
static int reschedule_slot[NR_CPUS] __ro_after_init;
static int call_slot[NR_CPUS] __ro_after_init;

void arch_smp_send_reschedule(int cpu)
{
	mk_signal(reschedule_slot[cpu]);
}

void arch_send_call_function_single_ipi(int cpu)
{
	mk_signal(call_slot[cpu]);
}

void arch_send_call_function_ipi_mask(const struct cpumask *mask)
{
	unsigned int cpu;

	for_each_cpu(cpu, mask)
		mk_signal(call_slot[cpu]);
}

static void reschedule(unsigned int bit)
{
	scheduler_ipi();
}

static void call_function(unsigned int bit)
{
	generic_smp_call_function_interrupt();
}

/* In a panic: the others stop where they are, whatever they hold. */
void smp_send_stop(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu)
		if (cpu != smp_processor_id())
			mk_invoke_status(MK_LINUX_CAP_VCPU + cpu,
					 MK_THREAD_STOP, 0, 0, 0, 0);
}

void __init mk_smp_setup(void)
{
	unsigned int cpu, count = mk_boot->vcpu_count;

	if (count > NR_CPUS) {
		pr_warn("%u service cores, but this kernel has at most %u CPUs\n",
			count, NR_CPUS);
		count = NR_CPUS;
	}
	for (cpu = 0; cpu < count; cpu++)
		set_cpu_possible(cpu, true);
}

/* The variables of the first CPU have moved to where they stay. */
void __init smp_prepare_boot_cpu(void)
{
	mk_vcpu_of(0)->linux[2] = per_cpu_offset(0);
}

/* Returns the slot of a capability that sets @bit in @cpu's `pending`. */
static int __init make_signal(unsigned int cpu, unsigned int bit)
{
	int slot = mk_slot_alloc(), err;

	if (slot < 0)
		return slot;
	err = mk_invoke(MK_LINUX_CAP_CSPACE, MK_CSPACE_COPY, MK_LINUX_CAP_VCPU + cpu,
			slot, MK_RIGHT_WRITE, 1ULL << bit);
	if (!err)
		return slot;
	mk_slot_free(slot);
	return err;
}

void __init smp_prepare_cpus(unsigned int max_cpus)
{
	unsigned int cpu;

	mk_bit_handler(MK_PENDING_RESCHEDULE_BIT, reschedule);
	mk_bit_handler(MK_PENDING_CALL_BIT, call_function);
	for_each_possible_cpu(cpu) {
		reschedule_slot[cpu] = make_signal(cpu, MK_PENDING_RESCHEDULE_BIT);
		call_slot[cpu] = make_signal(cpu, MK_PENDING_CALL_BIT);
		if (reschedule_slot[cpu] < 0 || call_slot[cpu] < 0) {
			pr_err("CPU %u cannot be interrupted: errors %d, %d\n",
			       cpu, reschedule_slot[cpu], call_slot[cpu]);
			break;
		}
		set_cpu_present(cpu, true);
	}
}

/* The first C code of a CPU that another one started; interrupts are off. */
asmlinkage __visible void mk_secondary(void)
{
	unsigned int cpu = smp_processor_id();

	mk_vcpu_of(cpu)->entry_ip = (unsigned long)mk_entry;
	mmgrab(&init_mm);
	current->active_mm = &init_mm;

	notify_cpu_starting(cpu);
	mk_timer_start();
	set_cpu_online(cpu, true);
	local_irq_enable();
	cpu_startup_entry(CPUHP_AP_ONLINE_IDLE);
}

int __cpu_up(unsigned int cpu, struct task_struct *idle)
{
	struct mk_vcpu_state *vcpu = mk_vcpu_of(cpu);
	unsigned long stack = (unsigned long)task_stack_page(idle) + THREAD_SIZE - 16;
	u64 start = mk_rdtsc();
	int err;

	vcpu->linux[0] = (unsigned long)idle;
	vcpu->linux[1] = cpu;
	vcpu->linux[2] = per_cpu_offset(cpu);
	vcpu->entry_gs = (unsigned long)vcpu;
	err = mk_invoke(MK_LINUX_CAP_VCPU + cpu, MK_THREAD_START,
			(unsigned long)mk_secondary_entry, stack,
			(unsigned long)vcpu, 0);
	if (err)
		return err;
	while (!cpu_online(cpu)) {
		if (mk_rdtsc() - start > START_SECONDS * mk_boot->tsc_hz)
			return -ETIMEDOUT;
		cpu_relax();
	}
	return 0;
}

void __init smp_cpus_done(unsigned int max_cpus)
{
}
