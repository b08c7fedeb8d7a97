/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_PGTABLE_H
#define __UM_PGTABLE_H

/*
 * Four levels with 512 entries each, as on the processor, but read by Linux
 * alone: the microkernel keeps the tables that the processor walks. It is told
 * of an entry when somebody faults on it (mk_take_items()) and made to forget
 * it by the flush that follows its change (asm/tlbflush.h).
 */

#include <asm-generic/pgtable-nop4d.h>
#include <asm/page.h>

#define PMD_SHIFT	21
#define PMD_SIZE	(1UL << PMD_SHIFT)
#define PMD_MASK	(~(PMD_SIZE - 1))
#define PUD_SHIFT	30
#define PUD_SIZE	(1UL << PUD_SHIFT)
#define PUD_MASK	(~(PUD_SIZE - 1))
#define PGDIR_SHIFT	39
#define PGDIR_SIZE	(1UL << PGDIR_SHIFT)
#define PGDIR_MASK	(~(PGDIR_SIZE - 1))

#define PTRS_PER_PTE	512
#define PTRS_PER_PMD	512
#define PTRS_PER_PUD	512
#define PTRS_PER_PGD	512
#define USER_PTRS_PER_PGD	DIV_ROUND_UP(TASK_SIZE, PGDIR_SIZE)

#define _PAGE_PRESENT	0x001
#define _PAGE_RW	0x002
#define _PAGE_USER	0x004
#define _PAGE_EXEC	0x008
#define _PAGE_PROTNONE	0x010	/* present for Linux, not for the user */
#define _PAGE_ACCESSED	0x020
#define _PAGE_DIRTY	0x040
#define _PAGE_SPECIAL	0x080
#define _PAGE_UNCACHED	0x100	/* device memory, kernel mappings only */
#define _PAGE_SOFTW	0x200

/* Bit 10 of a swap entry; see below. */
#define _PAGE_SWP_EXCLUSIVE	0x400

#define _PAGE_TABLE	(_PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED | _PAGE_DIRTY)
#define _PAGE_CHG_MASK	(PAGE_MASK | _PAGE_ACCESSED | _PAGE_DIRTY | _PAGE_SPECIAL)

#define _PAGE_READ	(_PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED)
#define PAGE_NONE	__pgprot(_PAGE_PROTNONE | _PAGE_ACCESSED)
#define PAGE_READONLY	__pgprot(_PAGE_READ)
#define PAGE_READEXEC	__pgprot(_PAGE_READ | _PAGE_EXEC)
#define PAGE_COPY	PAGE_READONLY
#define PAGE_SHARED	__pgprot(_PAGE_READ | _PAGE_RW)
#define PAGE_SHAREDEXEC	__pgprot(_PAGE_READ | _PAGE_RW | _PAGE_EXEC)
#define PAGE_KERNEL	__pgprot(_PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED)
#define PAGE_KERNEL_RO	__pgprot(_PAGE_PRESENT | _PAGE_ACCESSED)
#define PAGE_KERNEL_EXEC \
	__pgprot(_PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED | _PAGE_EXEC)

/* Linux's own addresses, in its own Task: far above any memory size. */
#define VMALLOC_START	0x100000000000UL
#define VMALLOC_END	0x180000000000UL
#define MODULES_VADDR	VMALLOC_START
#define MODULES_END	VMALLOC_END

#ifndef __ASSEMBLY__

#include <asm/processor.h>

extern pgd_t swapper_pg_dir[PTRS_PER_PGD];

extern unsigned long empty_zero_page[PAGE_SIZE / sizeof(unsigned long)];
#define ZERO_PAGE(vaddr) virt_to_page(empty_zero_page)

#define pte_ERROR(e) pr_err("%s:%d: bad pte %016lx\n", __FILE__, __LINE__, pte_val(e))
#define pmd_ERROR(e) pr_err("%s:%d: bad pmd %016lx\n", __FILE__, __LINE__, pmd_val(e))
#define pud_ERROR(e) pr_err("%s:%d: bad pud %016lx\n", __FILE__, __LINE__, pud_val(e))
#define pgd_ERROR(e) pr_err("%s:%d: bad pgd %016lx\n", __FILE__, __LINE__, pgd_val(e))

/* Upper levels */

#define pmd_none(x)	(!pmd_val(x))
#define pmd_bad(x)	((pmd_val(x) & ~PAGE_MASK) != _PAGE_TABLE)
#define pmd_present(x)	(pmd_val(x) & _PAGE_PRESENT)
#define pmd_clear(xp)	WRITE_ONCE(*(xp), __pmd(0))
#define pmd_pfn(x)	(pmd_val(x) >> PAGE_SHIFT)
#define pmd_page(x)	pfn_to_page(pmd_pfn(x))
#define pmd_page_vaddr(x)	((unsigned long)__va(pmd_val(x) & PAGE_MASK))
#define set_pmd(pmdp, pmd)	WRITE_ONCE(*(pmdp), (pmd))

#define pud_none(x)	(!pud_val(x))
#define pud_bad(x)	((pud_val(x) & ~PAGE_MASK) != _PAGE_TABLE)
#define pud_present(x)	(pud_val(x) & _PAGE_PRESENT)
#define pud_clear(xp)	WRITE_ONCE(*(xp), __pud(0))
#define pud_page(x)	pfn_to_page(pud_val(x) >> PAGE_SHIFT)
#define pud_pgtable(x)	((pmd_t *)__va(pud_val(x) & PAGE_MASK))
#define set_pud(pudp, pud)	WRITE_ONCE(*(pudp), (pud))

#define p4d_none(x)	(!p4d_val(x))
#define p4d_bad(x)	((p4d_val(x) & ~PAGE_MASK) != _PAGE_TABLE)
#define p4d_present(x)	(p4d_val(x) & _PAGE_PRESENT)
#define p4d_clear(xp)	WRITE_ONCE(*(xp), (p4d_t) { __pgd(0) })
#define p4d_page(x)	pfn_to_page(p4d_val(x) >> PAGE_SHIFT)
#define p4d_pgtable(x)	((pud_t *)__va(p4d_val(x) & PAGE_MASK))
#define set_p4d(p4dp, p4d)	WRITE_ONCE(*(p4dp), (p4d))

/* Entries */

static inline int pte_none(pte_t pte)
{
	return !pte_val(pte);
}

static inline int pte_present(pte_t pte)
{
	return pte_val(pte) & (_PAGE_PRESENT | _PAGE_PROTNONE);
}

#define pte_accessible(mm, pte)	(pte_val(pte) & _PAGE_PRESENT)

static inline int pte_write(pte_t pte)
{
	return pte_val(pte) & _PAGE_RW;
}

static inline int pte_dirty(pte_t pte)
{
	return pte_val(pte) & _PAGE_DIRTY;
}

static inline int pte_young(pte_t pte)
{
	return pte_val(pte) & _PAGE_ACCESSED;
}

static inline int pte_special(pte_t pte)
{
	return pte_val(pte) & _PAGE_SPECIAL;
}

static inline pte_t pte_wrprotect(pte_t pte)
{
	return __pte(pte_val(pte) & ~_PAGE_RW);
}

static inline pte_t pte_mkwrite_novma(pte_t pte)
{
	return __pte(pte_val(pte) | _PAGE_RW);
}

static inline pte_t pte_mkclean(pte_t pte)
{
	return __pte(pte_val(pte) & ~_PAGE_DIRTY);
}

static inline pte_t pte_mkdirty(pte_t pte)
{
	return __pte(pte_val(pte) | _PAGE_DIRTY);
}

static inline pte_t pte_mkold(pte_t pte)
{
	return __pte(pte_val(pte) & ~_PAGE_ACCESSED);
}

static inline pte_t pte_mkyoung(pte_t pte)
{
	return __pte(pte_val(pte) | _PAGE_ACCESSED);
}

static inline pte_t pte_mkspecial(pte_t pte)
{
	return __pte(pte_val(pte) | _PAGE_SPECIAL);
}

static inline unsigned long pte_pfn(pte_t pte)
{
	return pte_val(pte) >> PAGE_SHIFT;
}

#define PFN_PTE_SHIFT	PAGE_SHIFT
#define pte_page(x)	pfn_to_page(pte_pfn(x))

static inline pte_t pfn_pte(unsigned long pfn, pgprot_t prot)
{
	return __pte((pfn << PAGE_SHIFT) | pgprot_val(prot));
}

#define mk_pte(page, prot)	pfn_pte(page_to_pfn(page), prot)

static inline pte_t pte_modify(pte_t pte, pgprot_t prot)
{
	return __pte((pte_val(pte) & _PAGE_CHG_MASK) | pgprot_val(prot));
}

static inline void set_pte(pte_t *ptep, pte_t pte)
{
	WRITE_ONCE(*ptep, pte);
}

#define pte_clear(mm, addr, ptep)	set_pte(ptep, __pte(0))

#define pgprot_noncached(prot)	__pgprot(pgprot_val(prot) | _PAGE_UNCACHED)
#define pgprot_writecombine	pgprot_noncached

/*
 * Called wherever a fault made entries usable: the faulting thread gets them
 * mapped with its next resume.
 */
struct vm_area_struct;
struct vm_fault;
void mk_note_fault(struct mm_struct *mm, unsigned long address, unsigned int pages);
#define update_mmu_cache_range(vmf, vma, address, ptep, nr) \
	mk_note_fault((vma)->vm_mm, address, nr)
#define update_mmu_cache(vma, address, ptep) \
	mk_note_fault((vma)->vm_mm, address, 1)

/*
 * Taking away a page interrupts the cores that its mm runs on, so compaction
 * and reclaim leave those of decoupled threads alone.
 */
#define arch_keeps_pages(mm)	(atomic_read(&(mm)->context.decoupled) > 0)

/* MAP_32BIT (mmap.c) */
#define HAVE_ARCH_UNMAPPED_AREA
#define HAVE_ARCH_UNMAPPED_AREA_TOPDOWN

#define __HAVE_ARCH_PTEP_CLEAR_YOUNG_FLUSH
int ptep_clear_flush_young(struct vm_area_struct *vma, unsigned long address,
			   pte_t *ptep);

/* The fault handler notes the address itself; nothing stale is cached. */
#define flush_tlb_fix_spurious_fault(vma, address, ptep) do { } while (0)

/*
 * Swap entries: not none, not present.
 *
 *   63 ......... 16 15 .. 11 10  9 ..... 0
 *   <-- offset ---> <-type-> E   0 .... 0 1<<9
 *
 * E is the exclusive marker. Bit 9 keeps an entry of type 0 and offset 0 from
 * looking empty.
 */
#define __swp_type(x)		(((x).val >> 11) & 0x1f)
#define __swp_offset(x)		((x).val >> 16)
#define __swp_entry(type, offset) \
	((swp_entry_t) { (((type) & 0x1f) << 11) | ((offset) << 16) | _PAGE_SOFTW })
#define __pte_to_swp_entry(pte)	((swp_entry_t) { pte_val(pte) })
#define __swp_entry_to_pte(x)	((pte_t) { (x).val })

static inline int pte_swp_exclusive(pte_t pte)
{
	return pte_val(pte) & _PAGE_SWP_EXCLUSIVE;
}

static inline pte_t pte_swp_mkexclusive(pte_t pte)
{
	return __pte(pte_val(pte) | _PAGE_SWP_EXCLUSIVE);
}

static inline pte_t pte_swp_clear_exclusive(pte_t pte)
{
	return __pte(pte_val(pte) & ~_PAGE_SWP_EXCLUSIVE);
}

#endif /* __ASSEMBLY__ */

#endif
