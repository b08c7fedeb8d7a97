/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_PAGE_H
#define __UM_PAGE_H

#include <linux/const.h>

#define PAGE_SHIFT	CONFIG_PAGE_SHIFT
#define PAGE_SIZE	(_AC(1, UL) << PAGE_SHIFT)
#define PAGE_MASK	(~(PAGE_SIZE - 1))

/* Linux's memory is mapped here; a "physical" address is an offset into it. */
#define PAGE_OFFSET	_AC(0x60000000, UL)

#ifndef __ASSEMBLY__

#include <linux/pfn.h>
#include <linux/types.h>
#include <asm/vm-flags.h>

struct page;

#define clear_page(page)	memset((void *)(page), 0, PAGE_SIZE)
#define copy_page(to, from)	memcpy((void *)(to), (void *)(from), PAGE_SIZE)

#define clear_user_page(page, vaddr, pg)	clear_page(page)
#define copy_user_page(to, from, vaddr, pg)	copy_page(to, from)

typedef struct { unsigned long pte; } pte_t;
typedef struct { unsigned long pmd; } pmd_t;
typedef struct { unsigned long pud; } pud_t;
typedef struct { unsigned long pgd; } pgd_t;
typedef struct { unsigned long pgprot; } pgprot_t;
typedef struct page *pgtable_t;

#define pte_val(x)	((x).pte)
#define pmd_val(x)	((x).pmd)
#define pud_val(x)	((x).pud)
#define pgd_val(x)	((x).pgd)
#define pgprot_val(x)	((x).pgprot)

#define __pte(x)	((pte_t) { (x) })
#define __pmd(x)	((pmd_t) { (x) })
#define __pud(x)	((pud_t) { (x) })
#define __pgd(x)	((pgd_t) { (x) })
#define __pgprot(x)	((pgprot_t) { (x) })

#define __pa(virt)	((unsigned long)(virt) - PAGE_OFFSET)
#define __va(phys)	((void *)((unsigned long)(phys) + PAGE_OFFSET))

#define phys_to_pfn(p)	((p) >> PAGE_SHIFT)
#define pfn_to_phys(pfn)	PFN_PHYS(pfn)
#define page_to_phys(page)	PFN_PHYS(page_to_pfn(page))
#define phys_to_page(phys)	pfn_to_page(PHYS_PFN(phys))
#define virt_to_page(addr)	pfn_to_page(PHYS_PFN(__pa(addr)))
#define virt_to_pfn(addr)	PHYS_PFN(__pa(addr))
#define virt_addr_valid(v)					\
	((unsigned long)(v) >= PAGE_OFFSET && pfn_valid(virt_to_pfn(v)))

#include <asm-generic/memory_model.h>
#include <asm-generic/getorder.h>

#endif

#endif
