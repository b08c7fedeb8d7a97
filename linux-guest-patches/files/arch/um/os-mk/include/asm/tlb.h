/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_TLB_H
#define __UM_TLB_H

#include <linux/mm.h>
#include <linux/swap.h>
#include <asm/tlbflush.h>

static inline void __tlb_remove_table(void *table)
{
	free_page_and_swap_cache(table);
}

#include <asm-generic/tlb.h>

#endif
