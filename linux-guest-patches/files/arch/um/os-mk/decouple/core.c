// SPDX-License-Identifier: GPL-2.0
/*
 * The table of compute cores: one decoupled Thread of the microkernel for
 * each, made at boot, and who occupies or reserves it.
 */
#include <linux/cred.h>
#include <linux/init.h>
#include <linux/rcupdate.h>
#include <linux/sched/coredump.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/timekeeping.h>
#include "decouple.h"

struct decouple_core *decouple_cores;
unsigned int decouple_count;
DEFINE_SPINLOCK(decouple_lock);
DECLARE_WAIT_QUEUE_HEAD(decouple_changed);

bool decouple_is_service_core(unsigned int number)
{
	u64 i;

	for (i = 0; i < mk_boot->vcpu_count; i++)
		if (mk_boot->vcpu_core[i] == number)
			return true;
	return false;
}

struct decouple_core *decouple_find_core(unsigned int number)
{
	unsigned int i;

	for (i = 0; i < decouple_count; i++)
		if (decouple_cores[i].number == number)
			return &decouple_cores[i];
	return NULL;
}

static bool descends_from(struct task_struct *task, struct pid *ancestor)
{
	bool found = false;

	rcu_read_lock();
	for (; task->pid; task = rcu_dereference(task->real_parent)) {
		if (task_tgid(task) == ancestor) {
			found = true;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

/*
 * A reservation lets through who holds the open file, and the process that
 * made it together with its descendants: a launcher reserves for its ranks.
 */
static bool reserved_for_others(struct decouple_core *core,
				struct task_struct *task,
				struct decouple_file *file)
{
	return core->reserved && core->reserved != file &&
	       !descends_from(task, core->reserved->owner) &&
	       !descends_from(current, core->reserved->owner);
}

static struct decouple_core *pick_core(struct task_struct *task,
				       struct decouple_file *file)
{
	struct decouple_core *best = NULL;
	unsigned int i;

	for (i = 0; i < decouple_count; i++) {
		struct decouple_core *core = &decouple_cores[i];

		if (core->task || reserved_for_others(core, task, file))
			continue;
		if (core->reserved)
			return core;
		if (!best)
			best = core;
	}
	return best;
}

/**
 * decouple_claim() - make a thread the occupant of a core
 * @task: thread; goes over at its next return to user mode
 * @number: machine number of the core, or negative for any
 * @file: open file through which the caller asks
 * @generation: out: which claim of the core this is
 *
 * Return: the core, or an error pointer: -ENODEV (no such compute core),
 * -EINVAL (a service core), -EBUSY, -EALREADY (is decoupled), -ESRCH (dying).
 */
struct decouple_core *decouple_claim(struct task_struct *task, int number,
				     struct decouple_file *file,
				     u64 *generation)
{
	struct decouple_core *core;
	unsigned long flags;
	int err;

	if (!decouple_count)
		return ERR_PTR(-ENODEV);
	if (number >= 0 && !decouple_find_core(number))
		return ERR_PTR(decouple_is_service_core(number) ? -EINVAL :
								  -ENODEV);

	spin_lock_irqsave(&decouple_lock, flags);

	err = -EALREADY;
	if (task->thread.decoupled)
		goto out;

	/* A dying thread sets PF_EXITING first and looks here after that. */
	err = -ESRCH;
	if (task->flags & PF_EXITING)
		goto out;

	err = -EBUSY;
	if (number < 0)
		core = pick_core(task, file);
	else
		core = decouple_find_core(number);
	if (!core || core->task || reserved_for_others(core, task, file))
		goto out;

	memset(&core->stats, 0, sizeof(core->stats));
	core->stats.since_ns = ktime_get_ns();
	core->task = get_task_struct(task);
	*generation = ++core->generation;
	core->entered = false;
	core->away = false;
	core->leave = false;
	core->timer_due = false;
	WRITE_ONCE(task->thread.decoupled, core);
	err = 0;
out:
	spin_unlock_irqrestore(&decouple_lock, flags);
	return err ? ERR_PTR(err) : core;
}

/* Who could have traced @task may read the counters that it leaves. */
static kuid_t owner_of(struct task_struct *task)
{
	const struct cred *cred = __task_cred(task);

	if (get_dumpable(task->mm) != SUID_DUMP_USER ||
	    !uid_eq(cred->uid, cred->euid) || !uid_eq(cred->uid, cred->suid))
		return GLOBAL_ROOT_UID;
	return cred->uid;
}

/**
 * decouple_release() - make the core free again
 * @core: its frame is idle. decouple_lock is held.
 */
void decouple_release(struct decouple_core *core)
{
	struct task_struct *task = core->task;

	lockdep_assert_held(&decouple_lock);
	WRITE_ONCE(task->thread.decoupled, NULL);
	core->owner = owner_of(task);
	core->task = NULL;
	core->entered = false;
	core->away = false;
	core->leave = false;
	put_task_struct(task);
	wake_up_all(&decouple_changed);
}

static void wake_trapped(struct decouple_core *except)
{
	struct decouple_core *core;

	for (core = decouple_cores; core < decouple_cores + decouple_count;
	     core++)
		if (core != except && decouple_trapped(core))
			rcuwait_wake_up(&core->wait);
}

/* Hard interrupt context: some core trapped; cores share the bit. */
static void doorbell(unsigned int bit)
{
	wake_trapped(NULL);
}

/**
 * decouple_take_doorbell() - this CPU saw @core's trap by itself
 * @core: the core; interrupts are off
 *
 * Takes the doorbell's bit away if it is this CPU's, and does for the other
 * cores what its interrupt would have done. A core that traps after the bit
 * was taken sets it again.
 */
void decouple_take_doorbell(struct decouple_core *core)
{
	struct mk_vcpu_state *vcpu = mk_vcpu_of(0);

	if (smp_processor_id() != 0)
		return;
	/* The microkernel writes it from other cores: locked on any kernel. */
	asm volatile("lock; btrq %1, %0"
		     : "+m" (vcpu->pending)
		     : "Ir" ((u64)MK_PENDING_DOORBELL_BIT) : "memory", "cc");
	wake_trapped(core);
}

static int __init make_core(struct decouple_core *core, unsigned int i,
			    int doorbell_slot)
{
	u64 offset = mk_boot->frame_offset + (u64)i * PAGE_SIZE;
	long err;

	core->number = mk_boot->compute_core[i];
	core->frame = (void *)(MK_LINUX_BASE + offset);
	rcuwait_init(&core->wait);

	core->thread = mk_slot_alloc();
	if (core->thread < 0)
		return core->thread;

	err = mk_invoke(MK_LINUX_CAP_UNTYPED, MK_UNTYPED_RETYPE,
			MK_KIND_THREAD, 0, core->thread, 0);
	if (err)
		goto out_slot;

	err = mk_invoke(core->thread, MK_THREAD_BIND,
			MK_LINUX_CAP_CPU + core->number, MK_LINUX_CEILING, 0, 0);
	if (!err)
		err = mk_invoke(core->thread, MK_THREAD_DECOUPLE,
				MK_LINUX_CAP_MEMORY, offset, doorbell_slot, 0);
	if (err)
		goto out_thread;

	core->inflight.item_count = &core->frame->item_count;
	mk_inflight_register(&core->inflight);
	return 0;

out_thread:
	mk_invoke(MK_LINUX_CAP_CSPACE, MK_CSPACE_DELETE, core->thread, 0, 0, 0);
out_slot:
	mk_slot_free(core->thread);
	return err;
}

static int __init decouple_init(void)
{
	unsigned int i, wanted = mk_boot->compute_count;
	int doorbell_slot, err;

	if (!wanted)
		return decouple_sysfs_init();

	decouple_cores = kcalloc(wanted, sizeof(*decouple_cores), GFP_KERNEL);
	if (!decouple_cores)
		return -ENOMEM;

	doorbell_slot = mk_slot_alloc();
	if (doorbell_slot < 0)
		return doorbell_slot;
	err = mk_invoke(MK_LINUX_CAP_CSPACE, MK_CSPACE_COPY, MK_LINUX_CAP_VCPU,
			doorbell_slot, MK_RIGHT_WRITE, 1ULL << MK_PENDING_DOORBELL_BIT);
	if (err) {
		pr_err("decouple: no doorbell: %d\n", err);
		return err;
	}

	for (i = 0; i < wanted; i++) {
		struct decouple_core *core = &decouple_cores[decouple_count];

		err = make_core(core, i, doorbell_slot);
		if (err) {
			pr_err("decouple: core %u is not usable: %d\n",
			       mk_boot->compute_core[i], err);
			continue;
		}
		decouple_count++;
	}

	mk_bit_handler(MK_PENDING_DOORBELL_BIT, doorbell);
	pr_info("decouple: %u compute cores\n", decouple_count);
	return decouple_sysfs_init();
}
device_initcall(decouple_init);
