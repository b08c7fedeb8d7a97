/* SPDX-License-Identifier: GPL-2.0 */
/* Linux's side of the microkernel interface (docs/abi.md). */
#ifndef __UM_MK_H
#define __UM_MK_H

#include <linux/bits.h>
#include <linux/types.h>
#include <asm/mk_abi.h>

#define MK_PENDING_TIMER_BIT	63
#define MK_PENDING_DOORBELL_BIT	40
/* From other CPUs (smp.c). */
#define MK_PENDING_RESCHEDULE_BIT	41
#define MK_PENDING_CALL_BIT	42

/*
 * Where device memory is mapped: behind VMALLOC_END, because a flush of vmalloc
 * memory may span areas that are in use.
 */
#define MK_IOREMAP_START	0x180000000000UL
#define MK_IOREMAP_END		0x1c0000000000UL

struct mm_struct;
struct task_struct;

extern struct mk_linux_boot *mk_boot;

/* Pages of virtual CPU @cpu, shared with the microkernel. */
struct mk_vcpu_state *mk_vcpu_of(unsigned int cpu);
struct mk_message_page *mk_message_of(unsigned int cpu);

/*
 * Call method @label of the object behind capability @cap. All return 0 or a
 * negative errno; the microkernel's own error is in mk_invoke_status().
 * Callable from any context: words beyond the fourth travel in the vCPU's
 * message page with interrupts off.
 */
long mk_invoke_status(u64 cap, u64 label, u64 w0, u64 w1, u64 w2, u64 w3);
long mk_invoke(u64 cap, u64 label, u64 w0, u64 w1, u64 w2, u64 w3);
long mk_invoke5(u64 cap, u64 label, u64 w0, u64 w1, u64 w2, u64 w3, u64 w4);
long mk_invoke_out(u64 cap, u64 label, u64 w0, u64 w1, u64 *r0, u64 *r1);
int mk_errno(long status);
/* Signal a vCPU through a badged capability. */
void mk_signal(u64 cap);

/* Wait until an interrupt is pending on this vCPU. */
void mk_wait(void);

void mk_log_write(const char *text, size_t length);

/* Free slots of Linux's capability space. A negative errno if there is none. */
int mk_slot_alloc(void);
void mk_slot_free(int slot);

/*
 * Call @fn in hard interrupt context whenever bit @bit of a vCPU's `pending`
 * was set. NULL takes the handler away.
 */
void mk_bit_handler(unsigned int bit, void (*fn)(unsigned int bit));

/*
 * A place from which map items reach a Task: the vCPU's page, or the frame of
 * a decoupled thread. Items are made from page table entries without a lock,
 * so whoever takes an entry away must wait until items that may still name the
 * page have been applied, and unmap only then.
 */
struct mk_inflight {
	struct mk_inflight *next;
	struct mm_struct *mm;
	u32 busy;
	u64 *item_count;
};

void mk_inflight_register(struct mk_inflight *fl);
/*
 * Fill @items for the address ranges in which @task faulted since its last
 * resume; returns their number. Interrupts must be off from here until
 * mk_inflight_publish(), before which the caller stores the number in
 * *item_count. A flush waits for this, so hand the items over without delay.
 */
unsigned int mk_take_items(struct mk_inflight *fl, struct task_struct *task,
			   struct mk_map_item *items);
void mk_inflight_publish(struct mk_inflight *fl);

/*
 * See that @mm, in which current is about to run, has a Task. Returns its slot,
 * or the microkernel's (negative) status.
 */
long mk_space_open(struct mm_struct *mm);
/* The items that @task last took have been applied. */
void mk_items_applied(struct task_struct *task);

/* The extended state in task->thread.fpu.xsave is the newest after this. */
void mk_fpu_save(struct task_struct *task);

#endif
