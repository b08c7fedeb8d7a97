/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_VDSO_DATA_H
#define __UM_VDSO_DATA_H

#include <linux/types.h>

#define VDSO_CORES	64

/**
 * struct arch_vdso_data - what the port adds to the vDSO's data page
 * @cpu_of_core: the Linux CPU that stands behind each machine core: on a
 *	service core its vCPU, on a compute core CPU 0
 *
 * The microkernel writes the machine core into TSC_AUX, so RDTSCP tells user
 * code where it runs; Linux's CPU numbers are others.
 */
struct arch_vdso_data {
	__u8 cpu_of_core[VDSO_CORES];
};

#endif /* __UM_VDSO_DATA_H */
