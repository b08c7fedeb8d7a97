/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_ARCHRANDOM_H
#define __UM_ARCHRANDOM_H

#include <linux/types.h>

/* RDRAND and RDSEED need no privilege; 0 where the processor has none. */
size_t __must_check arch_get_random_longs(unsigned long *v, size_t max_longs);
size_t __must_check arch_get_random_seed_longs(unsigned long *v, size_t max_longs);

#endif
