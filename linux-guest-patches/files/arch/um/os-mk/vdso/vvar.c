// SPDX-License-Identifier: GPL-2.0
/*
 * The vDSO in a process: its data page, and right above it its code.
 */
#include <linux/err.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <vdso/datapage.h>
#include <asm/elf.h>
#include <asm/mk.h>
#include <asm/vdso/vsyscall.h>

extern char vdso_start[], vdso_end[];

/* Timekeeping writes it from early boot on, hence static. */
static union vdso_data_store vdso_data_store __page_aligned_data;
struct vdso_data *um_vdso_data = vdso_data_store.data;

static struct page *vvar_pages[2];
static unsigned long vdso_bytes;

static struct vm_special_mapping vvar_mapping = {
	.name	= "[vvar]",
	.pages	= vvar_pages,
};

static struct vm_special_mapping vdso_mapping = {
	.name	= "[vdso]",
};

static void __init number_cores(void)
{
	u64 i;

	for (i = 0; i < mk_boot->vcpu_count; i++) {
		u32 core = mk_boot->vcpu_core[i];

		if (core < VDSO_CORES)
			um_vdso_data->arch_data.cpu_of_core[core] = i;
	}
}

static int __init init_vdso(void)
{
	unsigned long i, size = vdso_end - vdso_start;
	unsigned long count = PAGE_ALIGN(size) >> PAGE_SHIFT;
	struct page **pages;

	pages = kcalloc(count + 1, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;

	for (i = 0; i < count; i++) {
		unsigned long done = i << PAGE_SHIFT;

		pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!pages[i])
			goto out_free;
		memcpy(page_address(pages[i]), vdso_start + done,
		       min(PAGE_SIZE, size - done));
	}

	number_cores();
	vvar_pages[0] = virt_to_page(um_vdso_data);
	vdso_mapping.pages = pages;
	vdso_bytes = count << PAGE_SHIFT;
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
	unsigned long start;
	int err;

	if (!vdso_bytes)
		return 0;

	if (mmap_write_lock_killable(mm))
		return -EINTR;

	start = get_unmapped_area(NULL, 0, PAGE_SIZE + vdso_bytes, 0, 0);
	err = start;
	if (IS_ERR_VALUE(start))
		goto out;

	vma = _install_special_mapping(mm, start, PAGE_SIZE,
				       VM_READ | VM_MAYREAD | VM_DONTDUMP,
				       &vvar_mapping);
	err = PTR_ERR_OR_ZERO(vma);
	if (err)
		goto out;

	vma = _install_special_mapping(mm, start + PAGE_SIZE, vdso_bytes,
				       VM_READ | VM_EXEC | VM_MAYREAD |
				       VM_MAYWRITE | VM_MAYEXEC,
				       &vdso_mapping);
	err = PTR_ERR_OR_ZERO(vma);
	if (!err)
		mm->context.vdso = start + PAGE_SIZE;
out:
	mmap_write_unlock(mm);
	return err;
}
