// SPDX-License-Identifier: GPL-2.0
/*
 * Address spaces: each mm is a Task of the microkernel. Entries reach it with
 * the next resume of the thread that faulted on them; a flush takes them out
 * before it returns.
 */

#include <linux/export.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <asm/mk.h>
#include <asm/mmu_context.h>
#include <asm/tlbflush.h>
#include "os-mk.h"

/*
 * Entries around a fault are mapped with it where they are there: a trap costs
 * far more than an entry. NEAR always fits into the items; of FAR what does.
 */
#define NEAR	(MK_MAP_ITEMS * PAGE_SIZE)
#define FAR	(4 * NEAR)

static struct mk_inflight *inflights;
static DEFINE_SPINLOCK(inflight_lock);

void mk_inflight_register(struct mk_inflight *fl)
{
	spin_lock(&inflight_lock);
	fl->next = inflights;
	smp_store_release(&inflights, fl);
	spin_unlock(&inflight_lock);
}
EXPORT_SYMBOL_GPL(mk_inflight_register);

void mk_note_fault(struct mm_struct *mm, unsigned long address, unsigned int pages)
{
	struct thread_struct *thread = &current->thread;
	struct mk_noted *noted;

	/* Somebody else's memory: its threads fault themselves. */
	if (mm != current->mm)
		return;
	if (thread->noted_count == MK_NOTED_FAULTS) {
		memmove(thread->noted, thread->noted + 1,
			sizeof(*noted) * (MK_NOTED_FAULTS - 1));
		thread->noted_count--;
	}
	noted = &thread->noted[thread->noted_count++];
	noted->address = address & PAGE_MASK;
	noted->pages = pages;
}

unsigned int mk_pte_rights(pte_t pte)
{
	unsigned long val = pte_val(pte);
	unsigned int rights = MK_MAP_READ;

	if (!(val & _PAGE_PRESENT) || !(val & _PAGE_USER))
		return 0;
	/* The first write to a clean page must be seen. */
	if ((val & _PAGE_RW) && (val & _PAGE_DIRTY))
		rights |= MK_MAP_WRITE;
	if (val & _PAGE_EXEC)
		rights |= MK_MAP_EXEC;
	return rights;
}

/*
 * The middle entry, or the entry, of @address; NULL where there is no table.
 * With interrupts off, in an rcu section, or the mm kept otherwise from
 * freeing its tables.
 */
pmd_t *mk_find_pmd(struct mm_struct *mm, unsigned long address)
{
	p4d_t *p4d = p4d_offset(pgd_offset(mm, address), address);
	pud_t *pud;
	pmd_t *pmd;

	if (!p4d_present(READ_ONCE(*p4d)))
		return NULL;
	pud = pud_offset(p4d, address);
	if (!pud_present(READ_ONCE(*pud)))
		return NULL;
	pmd = pmd_offset(pud, address);
	return pmd_present(READ_ONCE(*pmd)) ? pmd : NULL;
}

pte_t *mk_find_pte(struct mm_struct *mm, unsigned long address)
{
	pmd_t *pmd = mk_find_pmd(mm, address);

	return pmd ? (pte_t *)pmd_page_vaddr(READ_ONCE(*pmd)) + pte_index(address) : NULL;
}

/* Add entries of [start, end), all in one table, as items. */
static unsigned int add_items(struct mm_struct *mm, unsigned long start,
			      unsigned long end, struct mk_map_item *items,
			      unsigned int n)
{
	pte_t *pte = mk_find_pte(mm, start);
	struct mk_map_item *last = n ? &items[n - 1] : NULL;

	if (!pte)
		return n;
	for (; start < end; start += PAGE_SIZE, pte++) {
		pte_t entry = READ_ONCE(*pte);
		unsigned int rights = mk_pte_rights(entry);
		u64 offset = (u64)pte_pfn(entry) << PAGE_SHIFT;

		if (!rights || !pfn_valid(pte_pfn(entry)))
			continue;
		/* As a processor would: what is mapped may have been used. */
		if (!pte_young(entry) &&
		    cmpxchg(&pte->pte, pte_val(entry), pte_val(pte_mkyoung(entry))) != pte_val(entry))
			continue;
		if (last && last->flags == rights &&
		    last->address + last->size == start &&
		    last->offset + last->size == offset) {
			last->size += PAGE_SIZE;
			continue;
		}
		if (n == MK_MAP_ITEMS)
			break;
		last = &items[n++];
		*last = (struct mk_map_item) {
			.address = start,
			.offset = offset,
			.size = PAGE_SIZE,
			.flags = rights,
		};
	}
	return n;
}

unsigned int mk_take_items(struct mk_inflight *fl, struct task_struct *task,
			   struct mk_map_item *items)
{
	struct thread_struct *thread = &task->thread;
	struct mm_struct *mm = task->mm;
	unsigned int n = 0;

	if (!thread->noted_count)
		return 0;

	WRITE_ONCE(fl->busy, 1);
	WRITE_ONCE(fl->mm, mm);
	WRITE_ONCE(mm->context.used, jiffies);
	/* Against mk_flush_mm(): it sees us, or we see the entry gone. */
	mb();
	/* The last fault first: it is what the thread waits for. */
	while (thread->noted_count) {
		struct mk_noted *noted = &thread->noted[--thread->noted_count];
		unsigned long start = noted->address & ~(NEAR - 1);
		unsigned long end = start + NEAR;

		mk_items_taken(task, start);
		if (noted->pages == 1 && READ_ONCE(mm->context.around) == (start | 1)) {
			/* Its neighbours are mapped; only the page is new. */
			n = add_items(mm, noted->address, noted->address + PAGE_SIZE, items, n);
			continue;
		}
		if (noted->pages > 1) {
			start = noted->address;
			end = min(start + noted->pages * PAGE_SIZE, (start | ~PMD_MASK) + 1);
		} else {
			WRITE_ONCE(mm->context.around, start | 1);
		}
		n = add_items(mm, start, end, items, n);
		/* Upwards first, where programs go on. */
		n = add_items(mm, end, ALIGN(end, FAR), items, n);
		n = add_items(mm, ALIGN_DOWN(start, FAR), start, items, n);
	}
	return n;
}
EXPORT_SYMBOL_GPL(mk_take_items);

void mk_inflight_publish(struct mk_inflight *fl)
{
	smp_store_release(&fl->busy, 0);
}
EXPORT_SYMBOL_GPL(mk_inflight_publish);

/* Wait until no items are on their way that were made before now. */
static void wait_for_items(struct mm_struct *mm)
{
	struct mk_inflight *fl;

	for (fl = smp_load_acquire(&inflights); fl; fl = fl->next)
		while (READ_ONCE(fl->mm) == mm &&
		       (READ_ONCE(fl->busy) || READ_ONCE(*fl->item_count)))
			cpu_relax();
}

void mk_flush_mm(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	end = min(PAGE_ALIGN(end), MK_USER_END);
	start &= PAGE_MASK;
	if (start >= end)
		return;
	/* The entries are gone; only then look for items made from them. */
	mb();
	if (!READ_ONCE(mm->context.task))
		return;
	wait_for_items(mm);
	if (mk_space_unmap(mm, start, end))
		panic("cannot unmap %lx..%lx", start, end);
}
EXPORT_SYMBOL_GPL(mk_flush_mm);

/*
 * fork() takes the right to write away from private memory, and then flushes
 * all of the parent. But what leaves the parent's Task must come back by
 * faults; so what fork() has changed is flushed here, and the rest stays.
 */
int arch_dup_mmap(struct mm_struct *oldmm, struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, oldmm, 0);
	struct vm_area_struct *vma;

	for_each_vma(vmi, vma)
		if (vma->vm_flags & VM_WRITE && is_cow_mapping(vma->vm_flags))
			mk_flush_mm(oldmm, vma->vm_start, vma->vm_end);
	current->thread.forked = oldmm;
	return 0;
}

void flush_tlb_mm(struct mm_struct *mm)
{
	if (current->thread.forked == mm) {
		current->thread.forked = NULL;
		return;
	}
	mk_flush_mm(mm, 0, MK_USER_END);
}

/* A page that stays whatever its age is not asked for it: that takes a flush. */
int ptep_clear_flush_young(struct vm_area_struct *vma, unsigned long address,
			   pte_t *ptep)
{
	int young;

	if (arch_keeps_pages(vma->vm_mm))
		return 1;
	young = ptep_test_and_clear_young(vma, address, ptep);
	if (young)
		flush_tlb_page(vma, address);
	return young;
}
