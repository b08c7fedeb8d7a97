/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_VDSO_VSYSCALL_H
#define __UM_VDSO_VSYSCALL_H

#include <linux/timekeeper_internal.h>
#include <vdso/datapage.h>

extern struct vdso_data *um_vdso_data;

static __always_inline struct vdso_data *um_k_vdso_data(void)
{
	return um_vdso_data;
}
#define __arch_get_k_vdso_data um_k_vdso_data

/* Looks for the override above, so it comes last. */
#include <asm-generic/vdso/vsyscall.h>

#endif /* __UM_VDSO_VSYSCALL_H */
