// SPDX-License-Identifier: GPL-2.0
/* Linux's own memory: the linear mapping is there; the rest is made here. */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>
#include <asm/cacheflush.h>
#include <asm/mk.h>
#include <asm/pgalloc.h>
#include <asm/tlbflush.h>
#include "os-mk.h"

pgd_t swapper_pg_dir[PTRS_PER_PGD] __page_aligned_bss;
unsigned long empty_zero_page[PAGE_SIZE / sizeof(unsigned long)] __page_aligned_bss;
EXPORT_SYMBOL(empty_zero_page);

void __init mk_paging_init(void)
{
	unsigned long max_zone_pfn[MAX_NR_ZONES] = { };

	max_zone_pfn[ZONE_NORMAL] = max_pfn;
	free_area_init(max_zone_pfn);
}

void __init mem_init(void)
{
	memblock_free_all();
}

pgd_t *pgd_alloc(struct mm_struct *mm)
{
	struct ptdesc *ptdesc = pagetable_alloc(GFP_PGTABLE_USER, 0);

	return ptdesc ? ptdesc_address(ptdesc) : NULL;
}

static const pgprot_t protection_map[16] = {
	[VM_NONE]					= PAGE_NONE,
	[VM_READ]					= PAGE_READONLY,
	[VM_WRITE]					= PAGE_COPY,
	[VM_WRITE | VM_READ]				= PAGE_COPY,
	[VM_EXEC]					= PAGE_READEXEC,
	[VM_EXEC | VM_READ]				= PAGE_READEXEC,
	[VM_EXEC | VM_WRITE]				= PAGE_READEXEC,
	[VM_EXEC | VM_WRITE | VM_READ]			= PAGE_READEXEC,
	[VM_SHARED]					= PAGE_NONE,
	[VM_SHARED | VM_READ]				= PAGE_READONLY,
	[VM_SHARED | VM_WRITE]				= PAGE_SHARED,
	[VM_SHARED | VM_WRITE | VM_READ]		= PAGE_SHARED,
	[VM_SHARED | VM_EXEC]				= PAGE_READEXEC,
	[VM_SHARED | VM_EXEC | VM_READ]			= PAGE_READEXEC,
	[VM_SHARED | VM_EXEC | VM_WRITE]		= PAGE_SHAREDEXEC,
	[VM_SHARED | VM_EXEC | VM_WRITE | VM_READ]	= PAGE_SHAREDEXEC
};
DECLARE_VM_GET_PAGE_PROT

static bool in_vmalloc(unsigned long start, unsigned long end)
{
	return start >= VMALLOC_START && end <= VMALLOC_END && start < end;
}

static unsigned int kernel_rights(pte_t pte)
{
	unsigned int rights = MK_MAP_READ;

	if (pte_write(pte))
		rights |= MK_MAP_WRITE;
	if (pte_val(pte) & _PAGE_EXEC)
		rights |= MK_MAP_EXEC;
	return rights;
}

static int map_run(unsigned long address, pte_t first, unsigned long size)
{
	int err;

	do {
		err = mk_invoke5(MK_LINUX_CAP_TASK, MK_TASK_MAP, MK_LINUX_CAP_MEMORY,
				 (u64)pte_pfn(first) << PAGE_SHIFT, address, size,
				 kernel_rights(first));
	} while (err == -ENOMEM && mk_drop_tables());
	return err;
}

/* Device memory is entered by whoever maps it (ioremap.c). */
static bool mappable(pte_t *pte, pte_t *entry)
{
	if (!pte)
		return false;
	*entry = READ_ONCE(*pte);
	return pte_present(*entry) && pfn_valid(pte_pfn(*entry));
}

void mk_map_kernel_range(unsigned long start, unsigned long end)
{
	unsigned long address, run = 0, size = 0;
	pte_t first = __pte(0), entry;
	int err = 0;

	for (address = start; address < end && !err; address += PAGE_SIZE) {
		if (!mappable(mk_find_pte(&init_mm, address), &entry))
			continue;
		if (size && run + size == address &&
		    pte_pfn(entry) == pte_pfn(first) + (size >> PAGE_SHIFT) &&
		    kernel_rights(entry) == kernel_rights(first)) {
			size += PAGE_SIZE;
			continue;
		}
		if (size)
			err = map_run(run, first, size);
		run = address;
		first = entry;
		size = PAGE_SIZE;
	}
	if (size && !err)
		err = map_run(run, first, size);
	if (err)
		panic("cannot map kernel memory at %lx: error %d", start, err);
}

/*
 * A flush takes out all of a range, in which other areas may live: they come
 * back here, as does what was entered without mk_map_kernel_range().
 */
bool mk_map_kernel_page(unsigned long address, unsigned int need)
{
	pte_t entry;

	address &= PAGE_MASK;
	if (!in_vmalloc(address, address + PAGE_SIZE) ||
	    !mappable(mk_find_pte(&init_mm, address), &entry) ||
	    !(kernel_rights(entry) & need))
		return false;
	return !map_run(address, entry, PAGE_SIZE);
}

void flush_tlb_kernel_range(unsigned long start, unsigned long end)
{
	start = max(start & PAGE_MASK, VMALLOC_START);
	end = min(PAGE_ALIGN(end), VMALLOC_END);
	if (start < end &&
	    mk_invoke_status(MK_LINUX_CAP_TASK, MK_TASK_UNMAP, start, end - start, 0, 0))
		panic("cannot unmap kernel memory at %lx", start);
}
