// SPDX-License-Identifier: GPL-2.0
/*
 * The vDSO with a data page: [vvar][vdso], ending at the top of the address
 * space, where the linker script of the vDSO expects its data (one page below
 * its first page).
 */
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <vdso/datapage.h>
#include <asm/elf.h>
#include <asm/page.h>
#include <asm/vdso/vsyscall.h>

extern char vdso_start[], vdso_end[];

unsigned long um_vdso_addr;

/* Timekeeping writes it from early boot on, hence static. */
static union vdso_data_store vdso_data_store __page_aligned_data;
struct vdso_data *um_vdso_data = vdso_data_store.data;

static struct page *vvar_pages[2];
static struct page **vdso_pages;
static unsigned long vdso_bytes;

static struct vm_special_mapping vvar_mapping = {
	.name	= "[vvar]",
	.pages	= vvar_pages,
};

static struct vm_special_mapping vdso_mapping = {
	.name	= "[vdso]",
};

static int __init init_vdso(void)
{
	unsigned long i, count;
	struct page **pages;

	vdso_bytes = PAGE_ALIGN(vdso_end - vdso_start);
	count = vdso_bytes >> PAGE_SHIFT;

	pages = kcalloc(count + 1, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;

	for (i = 0; i < count; i++) {
		unsigned long done = i << PAGE_SHIFT;

		pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!pages[i])
			goto out_free;
		memcpy(page_address(pages[i]), vdso_start + done,
		       min(PAGE_SIZE, vdso_end - vdso_start - done));
	}

	vvar_pages[0] = virt_to_page(um_vdso_data);
	vdso_mapping.pages = pages;
	vdso_pages = pages;
	um_vdso_addr = TASK_SIZE - vdso_bytes;
	return 0;

out_free:
	while (i--)
		__free_page(pages[i]);
	kfree(pages);
	return -ENOMEM;
}
subsys_initcall(init_vdso);

int arch_setup_additional_pages(struct linux_binprm *bprm, int uses_interp)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;

	if (!vdso_pages)
		return 0;

	if (mmap_write_lock_killable(mm))
		return -EINTR;

	vma = _install_special_mapping(mm, um_vdso_addr - PAGE_SIZE, PAGE_SIZE,
				       VM_READ | VM_MAYREAD | VM_DONTDUMP,
				       &vvar_mapping);
	if (!IS_ERR(vma))
		vma = _install_special_mapping(mm, um_vdso_addr, vdso_bytes,
					       VM_READ | VM_EXEC | VM_MAYREAD |
					       VM_MAYWRITE | VM_MAYEXEC,
					       &vdso_mapping);

	mmap_write_unlock(mm);
	return PTR_ERR_OR_ZERO(vma);
}
