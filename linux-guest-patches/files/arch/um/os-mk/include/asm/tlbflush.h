/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_TLBFLUSH_H
#define __UM_TLBFLUSH_H

#include <linux/mm_types.h>

/*
 * A flush takes the range out of the mm's Task. When it returns, no core can
 * reach the pages any more; what is still wanted comes back by a fault.
 */
void mk_flush_mm(struct mm_struct *mm, unsigned long start, unsigned long end);

void flush_tlb_all(void);
void flush_tlb_mm(struct mm_struct *mm);
void flush_tlb_kernel_range(unsigned long start, unsigned long end);

static inline void flush_tlb_page(struct vm_area_struct *vma,
				  unsigned long address)
{
	mk_flush_mm(vma->vm_mm, address & PAGE_MASK,
		    (address & PAGE_MASK) + PAGE_SIZE);
}

static inline void flush_tlb_range(struct vm_area_struct *vma,
				   unsigned long start, unsigned long end)
{
	mk_flush_mm(vma->vm_mm, start, end);
}

#endif
