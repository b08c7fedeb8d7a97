// SPDX-License-Identifier: GPL-2.0
/* What arch/x86/kernel/module.c needs to place a module's code. */

#include <linux/cache.h>
#include <linux/export.h>
#include <linux/string.h>
#include <asm/text-patching.h>

/* A module is relocated before any of its code runs. */
void *text_poke(void *addr, const void *opcode, size_t len)
{
	return memcpy(addr, opcode, len);
}

void text_poke_sync(void)
{
}
