/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_VM_FLAGS_H
#define __UM_VM_FLAGS_H
/* The generic defaults: stacks and data are not executable. */
#endif
