// SPDX-License-Identifier: GPL-2.0
/* Where mmap() puts what it may put anywhere. */

#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>

/*
 * MAP_32BIT: code and data that are reached by 31-bit addresses. As on x86-64,
 * the second GiB, from below, its begin at random; a hint that fits counts.
 */
static unsigned long low_area(unsigned long addr, unsigned long len)
{
	struct vm_unmapped_area_info info = {
		.length = len,
		.low_limit = SZ_1G,
		.high_limit = SZ_2G,
	};

	if (len > info.high_limit)
		return -ENOMEM;
	if (addr) {
		struct vm_area_struct *next;

		addr = PAGE_ALIGN(addr);
		next = find_vma(current->mm, addr);
		if (addr <= info.high_limit - len &&
		    (!next || addr + len <= vm_start_gap(next)))
			return addr;
	}
	if (current->flags & PF_RANDOMIZE)
		info.low_limit = randomize_page(info.low_limit, SZ_32M);
	return vm_unmapped_area(&info);
}

static bool wants_low(unsigned long flags)
{
	return (flags & (MAP_32BIT | MAP_FIXED)) == MAP_32BIT;
}

unsigned long arch_get_unmapped_area(struct file *file, unsigned long addr,
				     unsigned long len, unsigned long pgoff,
				     unsigned long flags, vm_flags_t vm_flags)
{
	if (wants_low(flags))
		return low_area(addr, len);
	return generic_get_unmapped_area(file, addr, len, pgoff, flags, vm_flags);
}

unsigned long arch_get_unmapped_area_topdown(struct file *file, unsigned long addr,
					     unsigned long len, unsigned long pgoff,
					     unsigned long flags, vm_flags_t vm_flags)
{
	if (wants_low(flags))
		return low_area(addr, len);
	return generic_get_unmapped_area_topdown(file, addr, len, pgoff, flags, vm_flags);
}
