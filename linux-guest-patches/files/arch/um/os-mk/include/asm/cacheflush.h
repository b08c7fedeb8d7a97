/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_CACHEFLUSH_H
#define __UM_CACHEFLUSH_H

/* New kernel mappings are entered in Linux's own Task at once. */
void mk_map_kernel_range(unsigned long start, unsigned long end);
#define flush_cache_vmap mk_map_kernel_range

#include <asm-generic/cacheflush.h>

#endif
