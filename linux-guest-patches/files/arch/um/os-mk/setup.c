// SPDX-License-Identifier: GPL-2.0
/* From the first instruction to start_kernel() and setup_arch(). */

#include <linux/cpu.h>
#include <linux/init.h>
#include <linux/initrd.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/start_kernel.h>
#include <asm/mk.h>
#include <asm/sections.h>
#include <asm/setup.h>
#include <asm/text-patching.h>
#include "os-mk.h"

struct mk_linux_boot *mk_boot __ro_after_init;

static char command_line[COMMAND_LINE_SIZE] __initdata;

struct mk_vcpu_state *mk_vcpu_of(unsigned int cpu)
{
	return __va(mk_boot->vcpu_offset + cpu * PAGE_SIZE);
}

struct mk_message_page *mk_message_of(unsigned int cpu)
{
	return __va(mk_boot->message_offset + cpu * PAGE_SIZE);
}

/* Nothing that needs current works before mk_load_gs() returned. */
asmlinkage __visible void __init __noreturn mk_start(struct mk_linux_boot *boot)
{
	struct mk_vcpu_state *vcpu;

	mk_boot = boot;
	vcpu = mk_vcpu_of(0);
	vcpu->linux[0] = (unsigned long)&init_task;
	vcpu->linux[1] = 0;
	/* Until they are set up: the variables' initial values themselves. */
	vcpu->linux[2] = 0;
	vcpu->entry_gs = (unsigned long)vcpu;
	mk_load_gs(vcpu);
	vcpu->entry_ip = (unsigned long)mk_entry;
	WRITE_ONCE(vcpu->flags, MK_VCPU_EXC);

	init_task.thread_info.cpu = 0;
	start_kernel();
}

void __init setup_arch(char **cmdline_p)
{
	unsigned long pages = mk_boot->memory_bytes >> PAGE_SHIFT;

	mk_log_init();
	if (mk_boot->magic != MK_BOOT_MAGIC)
		panic("boot page has magic %llx, not %llx: vmlinux and the root task are of different versions",
		      mk_boot->magic, (u64)MK_BOOT_MAGIC);
	if (mk_boot->xsave_bytes > MK_XSAVE_MAX)
		panic("extended state of %llu bytes; at most %d are supported",
		      mk_boot->xsave_bytes, MK_XSAVE_MAX);

	strscpy(command_line, mk_boot->cmdline, sizeof(mk_boot->cmdline));
	strscpy(boot_command_line, command_line, COMMAND_LINE_SIZE);
	*cmdline_p = command_line;

	setup_initial_init_mm(_text, _etext, _edata, _end);
	parse_early_param();

	memblock_add(0, mk_boot->memory_bytes);
	memblock_reserve(0, mk_boot->free_offset);
	if (mk_boot->initrd_bytes) {
		initrd_start = (unsigned long)__va(mk_boot->initrd_offset);
		initrd_end = initrd_start + mk_boot->initrd_bytes;
		memblock_reserve(mk_boot->initrd_offset, mk_boot->initrd_bytes);
	}
	min_low_pfn = 0;
	max_low_pfn = pages;
	max_pfn = pages;
	set_max_mapnr(pages);
	high_memory = __va(mk_boot->memory_bytes);

	mk_smp_setup();
	mk_cpuinfo_init();
	mk_paging_init();
	mk_tables_init();
}

void __init arch_cpu_finalize_init(void)
{
}

/* Code is never patched while it runs: there is nothing to choose. */

void apply_seal_endbr(s32 *start, s32 *end)
{
}

void apply_retpolines(s32 *start, s32 *end)
{
}

void apply_returns(s32 *start, s32 *end)
{
}

void apply_fineibt(s32 *start_retpoline, s32 *end_retpoline,
		   s32 *start_cfi, s32 *end_cfi)
{
}

void apply_alternatives(struct alt_instr *start, struct alt_instr *end)
{
}
