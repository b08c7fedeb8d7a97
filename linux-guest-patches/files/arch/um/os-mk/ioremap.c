// SPDX-License-Identifier: GPL-2.0
/*
 * Device memory in Linux's address space. A mapping is made by the
 * microkernel from a device Range that Linux holds; the vmalloc code only
 * lends the addresses, and no page table of Linux's own describes it.
 */
#include <linux/export.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>
#include <asm/mk.h>

/**
 * mk_map_device() - map a part of a device Range
 * @slot: the Range's capability
 * @offset: first byte, page aligned
 * @size: bytes
 *
 * Return: the address, or NULL when there is no room or the kernel refuses.
 */
void __iomem *mk_map_device(u64 slot, u64 offset, size_t size)
{
	struct vm_struct *area;
	long err;

	size = PAGE_ALIGN(size);
	area = __get_vm_area_caller(size, VM_IOREMAP, MK_IOREMAP_START,
				    MK_IOREMAP_END,
				    __builtin_return_address(0));
	if (!area)
		return NULL;

	err = mk_invoke5(MK_LINUX_CAP_TASK, MK_TASK_MAP, slot, offset,
			 (unsigned long)area->addr, size,
			 MK_MAP_READ | MK_MAP_WRITE);
	if (err) {
		pr_err("cannot map device range %llu at %#llx: %ld\n", slot,
		       offset, err);
		free_vm_area(area);
		return NULL;
	}
	return (void __iomem *)area->addr;
}

static bool window_has(u64 address, u64 bytes, u64 start, size_t size)
{
	return start >= address && size <= bytes &&
	       start - address <= bytes - size;
}

/**
 * ioremap() - map device memory
 * @phys: MK_DEVICE_PHYS plus the machine address
 * @size: bytes
 *
 * Return: the address, or NULL where it lies in neither of the two windows
 * that PCI devices have.
 */
void __iomem *ioremap(phys_addr_t phys, size_t size)
{
	u64 inside = phys & ~PAGE_MASK;
	u64 start = phys - MK_DEVICE_PHYS - inside;
	void __iomem *base;
	u64 slot, offset;

	if (!size || phys < MK_DEVICE_PHYS || phys + size < phys)
		return NULL;

	size = PAGE_ALIGN(size + inside);
	if (window_has(mk_boot->mmio_address, mk_boot->mmio_bytes, start,
		       size)) {
		slot = MK_LINUX_CAP_MMIO;
		offset = start - mk_boot->mmio_address;
	} else if (window_has(mk_boot->mmio64_address, mk_boot->mmio64_bytes,
			      start, size)) {
		slot = MK_LINUX_CAP_MMIO64;
		offset = start - mk_boot->mmio64_address;
	} else {
		return NULL;
	}

	base = mk_map_device(slot, offset, size);
	return base ? base + inside : NULL;
}
EXPORT_SYMBOL(ioremap);

void iounmap(volatile void __iomem *addr)
{
	void *start = (void *)((unsigned long)addr & PAGE_MASK);
	struct vm_struct *area = find_vm_area(start);

	if (WARN_ON(!area))
		return;

	mk_invoke(MK_LINUX_CAP_TASK, MK_TASK_UNMAP, (unsigned long)start,
		  get_vm_area_size(area), 0, 0);
	free_vm_area(area);
}
EXPORT_SYMBOL(iounmap);
