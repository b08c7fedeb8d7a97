// SPDX-License-Identifier: GPL-2.0
/* What arch/x86/kernel/module.c needs to place a module's code. */

#include <linux/cache.h>
#include <linux/export.h>
#include <linux/string.h>
#include <asm/alternative.h>
#include <asm/text-patching.h>

/* A module is relocated before any of its code runs. */
void *text_poke(void *addr, const void *opcode, size_t len)
{
	return memcpy(addr, opcode, len);
}

#ifdef CONFIG_SMP
/* The lock prefixes stay where they are, on one CPU too. */
void alternatives_smp_module_add(struct module *mod, char *name, void *locks,
				 void *locks_end, void *text, void *text_end)
{
}

void alternatives_smp_module_del(struct module *mod)
{
}
#endif

void text_poke_sync(void)
{
}
