/* SPDX-License-Identifier: GPL-2.0 */
/* vmlinux on the microkernel: linked to where Linux's memory is mapped. */
#define RO_EXCEPTION_TABLE_ALIGN	16
#include <asm/thread_info.h>
#include <asm/page.h>
#include <asm/cache.h>
#include <asm-generic/vmlinux.lds.h>

OUTPUT_FORMAT("elf64-x86-64")
OUTPUT_ARCH(i386:x86-64)
ENTRY(_start)
jiffies = jiffies_64;

PHDRS {
	text PT_LOAD FLAGS(5);
	data PT_LOAD FLAGS(6);
	note PT_NOTE FLAGS(4);
}

SECTIONS
{
	. = START;
	__binary_start = .;

	_text = .;
	_stext = .;
	.text : {
		HEAD_TEXT
		TEXT_TEXT
		SCHED_TEXT
		LOCK_TEXT
		IRQENTRY_TEXT
		SOFTIRQENTRY_TEXT
		*(.fixup)
		*(.gnu.warning)
	} :text =0xcccccccc
	_etext = .;

	RO_DATA(PAGE_SIZE)

	_sdata = .;
	RW_DATA(L1_CACHE_BYTES, PAGE_SIZE, THREAD_SIZE) :data
	.got : { *(.got) *(.got.plt) }
	_edata = .;

	. = ALIGN(PAGE_SIZE);
	__init_begin = .;
	INIT_TEXT_SECTION(PAGE_SIZE)
	INIT_DATA_SECTION(16)
	.exit.text : { EXIT_TEXT }
	.exit.data : { EXIT_DATA }
	/* Written by macros of arch/x86/include; nothing is patched here. */
	.altinstructions : { *(.altinstructions) }
	.altinstr_replacement : { *(.altinstr_replacement) }
	.altinstr_aux : { *(.altinstr_aux) }
	.smp_locks : { *(.smp_locks) }
	PERCPU_SECTION(L1_CACHE_BYTES)
	. = ALIGN(PAGE_SIZE);
	__init_end = .;

	BSS_SECTION(PAGE_SIZE, PAGE_SIZE, PAGE_SIZE)
	_end = .;

	STABS_DEBUG
	DWARF_DEBUG
	ELF_DETAILS

	DISCARDS
	/DISCARD/ : { *(.eh_frame) }
}
