/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One read-only, executable segment that can be mapped anywhere. The kernel
 * maps the data page right below it.
 */
#include <linux/const.h>

SECTIONS
{
	_vdso_data = -(1 << CONFIG_PAGE_SHIFT);

	. = SIZEOF_HEADERS;

	.hash		: { *(.hash) }			:text
	.gnu.hash	: { *(.gnu.hash) }		:text
	.dynsym		: { *(.dynsym) }		:text
	.dynstr		: { *(.dynstr) }		:text
	.gnu.version	: { *(.gnu.version) }		:text
	.gnu.version_d	: { *(.gnu.version_d) }		:text

	.note		: { *(.note.*) }		:text :note
	.eh_frame_hdr	: { *(.eh_frame_hdr) }		:text :eh_frame_hdr
	.eh_frame	: { KEEP(*(.eh_frame)) }	:text
	.dynamic	: { *(.dynamic) }		:text :dynamic
	.rodata		: { *(.rodata .rodata.*) }	:text

	. = ALIGN(64);
	.text		: { *(.text .text.*) }		:text

	/* Data of its own would have to be written to. */
	.data		: { *(.data .data.* .bss .bss.* .got .got.*) }
	ASSERT(SIZEOF(.data) == 0, "the vDSO must not have writable data")
}

PHDRS
{
	text		PT_LOAD FILEHDR PHDRS FLAGS(5);
	dynamic		PT_DYNAMIC FLAGS(4);
	note		PT_NOTE FLAGS(4);
	eh_frame_hdr	PT_GNU_EH_FRAME FLAGS(4);
}

VERSION
{
	LINUX_2.6 {
	global:
		__vdso_clock_getres;
		__vdso_clock_gettime;
		__vdso_getcpu;
		__vdso_gettimeofday;
		__vdso_time;
		clock_getres;
		clock_gettime;
		getcpu;
		gettimeofday;
		time;
	local:
		*;
	};
}
