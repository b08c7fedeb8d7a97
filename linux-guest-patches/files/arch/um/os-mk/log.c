// SPDX-License-Identifier: GPL-2.0
/*
 * The microkernel's log: Linux's console until a real one is there, and the
 * last words of a panic.
 */

#include <linux/console.h>
#include <linux/init.h>
#include <linux/kmsg_dump.h>
#include <linux/smp.h>
#include <asm/mk.h>
#include "os-mk.h"

void mk_log_write(const char *text, size_t length)
{
	while (length) {
		size_t n = min_t(size_t, length, MK_LOG_BYTES);
		unsigned long flags;

		local_irq_save(flags);
		memcpy(&mk_message_of(smp_processor_id())->words[4], text, n);
		mk_invoke_status(MK_LINUX_CAP_LOG, MK_LOG_WRITE, n, 0, 0, 0);
		local_irq_restore(flags);
		text += n;
		length -= n;
	}
}

static void mk_console_write(struct console *con, const char *text, unsigned int n)
{
	mk_log_write(text, n);
}

static struct console mk_console = {
	.name	= "mklog",
	.write	= mk_console_write,
	.flags	= CON_PRINTBUFFER | CON_BOOT,
	.index	= -1,
};

static void mk_dump(struct kmsg_dumper *dumper, struct kmsg_dump_detail *detail)
{
	static char line[1024];
	struct kmsg_dump_iter iter;
	size_t n;

	if (mk_console.flags & CON_ENABLED)
		return;
	kmsg_dump_rewind(&iter);
	while (kmsg_dump_get_line(&iter, false, line, sizeof(line), &n))
		mk_log_write(line, n);
}

static struct kmsg_dumper mk_dumper = {
	.dump		= mk_dump,
	.max_reason	= KMSG_DUMP_PANIC,
};

void __init mk_log_init(void)
{
	register_console(&mk_console);
	kmsg_dump_register(&mk_dumper);
}
