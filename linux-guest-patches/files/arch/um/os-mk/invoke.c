// SPDX-License-Identifier: GPL-2.0
/* Calls on the microkernel's objects, and Linux's capability space. */

#include <linux/bitmap.h>
#include <linux/export.h>
#include <linux/irqflags.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <asm/mk.h>

#define TAG(label, words)	((u64)(label) | (u64)(words) << 32)

static __always_inline long call(u64 cap, u64 tag, u64 *w0, u64 *w1, u64 w2, u64 w3)
{
	register u64 r10 asm("r10") = *w1;
	register u64 r8 asm("r8") = w2;
	register u64 r9 asm("r9") = w3;
	u64 rdx = *w0, rdi = cap, rsi = tag;
	long rax = MK_SYS_CALL;

	asm volatile("syscall"
		     : "+a" (rax), "+D" (rdi), "+S" (rsi), "+d" (rdx),
		       "+r" (r10), "+r" (r8), "+r" (r9)
		     : : "rcx", "r11", "memory", "cc");
	*w0 = rdx;
	*w1 = r10;
	return rax;
}

int mk_errno(long status)
{
	switch (-status) {
	case 0:
		return 0;
	case MK_ERROR_NO_CAPABILITY:
		return -EBADF;
	case MK_ERROR_NO_RIGHTS:
		return -EPERM;
	case MK_ERROR_BAD_ADDRESS:
		return -EFAULT;
	case MK_ERROR_OCCUPIED:
		return -EEXIST;
	case MK_ERROR_NO_MEMORY:
		return -ENOMEM;
	case MK_ERROR_BAD_STATE:
	case MK_ERROR_BUSY:
		return -EBUSY;
	case MK_ERROR_CANCELLED:
		return -EINTR;
	case MK_ERROR_EMPTY:
		return -EAGAIN;
	case MK_ERROR_TOO_LONG:
		return -EMSGSIZE;
	default:
		return -EINVAL;
	}
}
EXPORT_SYMBOL_GPL(mk_errno);

long mk_invoke_status(u64 cap, u64 label, u64 w0, u64 w1, u64 w2, u64 w3)
{
	return call(cap, TAG(label, 4), &w0, &w1, w2, w3);
}
EXPORT_SYMBOL_GPL(mk_invoke_status);

long mk_invoke(u64 cap, u64 label, u64 w0, u64 w1, u64 w2, u64 w3)
{
	return mk_errno(mk_invoke_status(cap, label, w0, w1, w2, w3));
}
EXPORT_SYMBOL_GPL(mk_invoke);

long mk_invoke5(u64 cap, u64 label, u64 w0, u64 w1, u64 w2, u64 w3, u64 w4)
{
	unsigned long flags;
	long status;

	/* An interrupt's own call must not write the page in between. */
	local_irq_save(flags);
	mk_message_of(smp_processor_id())->words[4] = w4;
	status = call(cap, TAG(label, 5), &w0, &w1, w2, w3);
	local_irq_restore(flags);
	return mk_errno(status);
}
EXPORT_SYMBOL_GPL(mk_invoke5);

long mk_invoke_out(u64 cap, u64 label, u64 w0, u64 w1, u64 *r0, u64 *r1)
{
	long status = call(cap, TAG(label, 2), &w0, &w1, 0, 0);

	*r0 = w0;
	if (r1)
		*r1 = w1;
	return mk_errno(status);
}
EXPORT_SYMBOL_GPL(mk_invoke_out);

void mk_signal(u64 cap)
{
	u64 rdi = cap, rsi = 0;
	long rax = MK_SYS_SEND;

	asm volatile("syscall"
		     : "+a" (rax), "+D" (rdi), "+S" (rsi)
		     : : "rdx", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
}

/* Address spaces come and go where nobody may sleep: no memory is needed here. */
static DECLARE_BITMAP(slots, MK_LINUX_CSPACE_SLOTS);
static DEFINE_SPINLOCK(slots_lock);

int mk_slot_alloc(void)
{
	unsigned long flags, slot;

	spin_lock_irqsave(&slots_lock, flags);
	slot = find_next_zero_bit(slots, MK_LINUX_CSPACE_SLOTS, MK_LINUX_CAP_FREE);
	if (slot < MK_LINUX_CSPACE_SLOTS)
		__set_bit(slot, slots);
	spin_unlock_irqrestore(&slots_lock, flags);
	return slot < MK_LINUX_CSPACE_SLOTS ? slot : -ENOSPC;
}
EXPORT_SYMBOL_GPL(mk_slot_alloc);

void mk_slot_free(int slot)
{
	unsigned long flags;

	spin_lock_irqsave(&slots_lock, flags);
	__clear_bit(slot, slots);
	spin_unlock_irqrestore(&slots_lock, flags);
}
EXPORT_SYMBOL_GPL(mk_slot_free);
