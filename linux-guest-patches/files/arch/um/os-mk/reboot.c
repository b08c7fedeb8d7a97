// SPDX-License-Identifier: GPL-2.0
/* The ends of a run: the root task hears of each. */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/kmsg_dump.h>
#include <linux/panic_notifier.h>
#include <linux/pm.h>
#include <linux/reboot.h>
#include <asm/mk.h>

void (*pm_power_off)(void);
EXPORT_SYMBOL(pm_power_off);

/* The root task does not answer: it ends this Linux. */
static void __noreturn tell_root(u64 what)
{
	local_irq_disable();
	mk_invoke_status(MK_LINUX_CAP_ROOT, what, 0, 0, 0, 0);
	for (;;)
		mk_wait();
}

void machine_restart(char *command)
{
	tell_root(MK_ROOT_REBOOT);
}

void machine_power_off(void)
{
	tell_root(MK_ROOT_POWEROFF);
}

void machine_halt(void)
{
	machine_power_off();
}

static int power_off(struct sys_off_data *data)
{
	machine_power_off();
	return NOTIFY_DONE;
}

static int panic_event(struct notifier_block *nb, unsigned long action, void *data)
{
	kmsg_dump(KMSG_DUMP_PANIC);
	tell_root(MK_ROOT_PANIC);
	return NOTIFY_DONE;
}

static struct notifier_block panic_block = {
	.notifier_call	= panic_event,
	.priority	= INT_MIN, /* the last: it does not return */
};

static int __init reboot_init(void)
{
	atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	register_sys_off_handler(SYS_OFF_MODE_POWER_OFF, SYS_OFF_PRIO_DEFAULT,
				 power_off, NULL);
	return 0;
}
early_initcall(reboot_init);
