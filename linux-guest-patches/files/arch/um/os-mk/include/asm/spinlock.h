/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_SPINLOCK_H
#define __UM_SPINLOCK_H

/* A vCPU has a core to itself: whoever holds a lock runs. */
#include <asm/qspinlock.h>
#include <asm/qrwlock.h>

#endif
