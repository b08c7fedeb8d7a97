/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_VDSO_PROCESSOR_H
#define __UM_VDSO_PROCESSOR_H

#ifdef BUILD_VDSO
/*
 * The port's own cpu_relax() reaches into kernel data (time travel), which
 * code that runs in user mode cannot do.
 */
static __always_inline void cpu_relax(void)
{
	asm volatile("pause" : : : "memory");
}
#else
#include <asm/processor.h>
#endif

#endif /* __UM_VDSO_PROCESSOR_H */
