/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_TOPOLOGY_H
#define __UM_TOPOLOGY_H

/* One package; a vCPU is its core. */
unsigned int mk_core_of(unsigned int cpu);

#define topology_physical_package_id(cpu)	((void)(cpu), 0)
#define topology_core_id(cpu)			mk_core_of(cpu)
#define topology_core_cpumask(cpu)		((void)(cpu), cpu_online_mask)

#include <asm-generic/topology.h>

#endif
