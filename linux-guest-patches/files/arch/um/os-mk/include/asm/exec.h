/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_EXEC_H
#define __UM_EXEC_H
unsigned long arch_align_stack(unsigned long sp);
#endif
