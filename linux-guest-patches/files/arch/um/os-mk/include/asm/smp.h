/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_SMP_H
#define __UM_SMP_H

#define hard_smp_processor_id()		0

#ifdef CONFIG_SMP

#include <linux/cpumask.h>
#include <asm/current.h>

#define raw_smp_processor_id()	mk_cpu()

void arch_smp_send_reschedule(int cpu);
void arch_send_call_function_single_ipi(int cpu);
void arch_send_call_function_ipi_mask(const struct cpumask *mask);

#endif

#endif
