// SPDX-License-Identifier: GPL-2.0
/* Interrupts: bits that the microkernel sets in `pending`. */

#include <linux/hardirq.h>
#include <linux/export.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <asm/irq_regs.h>
#include <asm/mk.h>
#include "os-mk.h"

static void (*bit_handler[64])(unsigned int bit);

/* How often each bit came. Linux counts those of devices itself. */
static DEFINE_PER_CPU(u64[64], bit_count);

/* What an interrupt sees that was pending while Linux had them off. */
static struct pt_regs no_regs;

void mk_bit_handler(unsigned int bit, void (*fn)(unsigned int bit))
{
	WRITE_ONCE(bit_handler[bit], fn);
}
EXPORT_SYMBOL_GPL(mk_bit_handler);

void mk_handle_pending(struct pt_regs *regs)
{
	struct mk_vcpu_state *vcpu = mk_vcpu_of(mk_cpu());
	u64 pending;

	while ((pending = xchg(&vcpu->pending, 0)) != 0) {
		struct pt_regs *old = set_irq_regs(regs);

		irq_enter();
		while (pending) {
			unsigned int bit = __ffs64(pending);
			void (*fn)(unsigned int bit) = READ_ONCE(bit_handler[bit]);

			pending &= pending - 1;
			__this_cpu_inc(bit_count[bit]);
			if (fn)
				fn(bit);
			else
				pr_warn_ratelimited("interrupt bit %u: no handler\n", bit);
		}
		irq_exit();
		set_irq_regs(old);
	}
}

/* Interrupts were just enabled, and some were pending. */
void mk_irq_pending(void)
{
	struct mk_vcpu_state *vcpu = mk_vcpu_of(mk_cpu());

	do {
		WRITE_ONCE(vcpu->flags, MK_VCPU_EXC);
		mk_handle_pending(&no_regs);
		WRITE_ONCE(vcpu->flags, MK_VCPU_EXC | MK_VCPU_IRQ);
		barrier();
	} while (READ_ONCE(vcpu->pending));
}
EXPORT_SYMBOL(mk_irq_pending);

u64 mk_irq_stat_cpu(unsigned int cpu)
{
	u64 *count = per_cpu(bit_count, cpu);

	return count[MK_PENDING_TIMER_BIT] + count[MK_PENDING_DOORBELL_BIT] +
	       count[MK_PENDING_RESCHEDULE_BIT] + count[MK_PENDING_CALL_BIT];
}

static void show_bit(struct seq_file *p, int prec, const char *name,
		     unsigned int bit, const char *what)
{
	unsigned int cpu;

	seq_printf(p, "%*s: ", prec, name);
	for_each_online_cpu(cpu)
		seq_printf(p, "%10llu ", per_cpu(bit_count, cpu)[bit]);
	seq_printf(p, "  %s\n", what);
}

/* The end of /proc/interrupts. */
int arch_show_interrupts(struct seq_file *p, int prec)
{
	show_bit(p, prec, "LOC", MK_PENDING_TIMER_BIT, "Local timer interrupts");
	show_bit(p, prec, "BEL", MK_PENDING_DOORBELL_BIT,
		 "Traps of decoupled threads");
#ifdef CONFIG_SMP
	show_bit(p, prec, "RES", MK_PENDING_RESCHEDULE_BIT,
		 "Rescheduling interrupts");
	show_bit(p, prec, "CAL", MK_PENDING_CALL_BIT, "Function call interrupts");
#endif
	return 0;
}

void __init init_IRQ(void)
{
}
