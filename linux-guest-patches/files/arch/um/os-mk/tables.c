// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks and their page tables are a cache. Linux knows what an mm maps, and
 * faults bring it back. So a Task is made when a thread is about to run in its
 * mm, and when the Untyped that pays for Tasks and tables is empty, those of
 * other address spaces are dropped. How large it is bounds how fast programs
 * are, never what they can do.
 */

#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/sysfs.h>
#include <linux/vmstat.h>
#include <asm/mk.h>
#include <asm/mmu_context.h>
#include <asm/tlbflush.h>
#include "os-mk.h"

/* Pages of a Task beside its tables: the object and the root. */
#define TASK_PAGES	2
/*
 * A space that is in use keeps as many tables as that: no instruction needs
 * more, and whoever faults must get further than to its next fault.
 */
#define WORKING_SET	64

/* All mms that have a Task. The lock comes before theirs. */
static LIST_HEAD(spaces);
static DEFINE_SPINLOCK(spaces_lock);

/* Pages of the Untyped when Linux started. */
static unsigned long pool_pages __ro_after_init;
/* How often the tables of an address space were dropped. */
static unsigned long dropped;

static unsigned long free_pages_of_pool(void)
{
	u64 bytes = 0;

	mk_invoke_out(MK_LINUX_CAP_UNTYPED, MK_UNTYPED_FREE, 0, 0, &bytes, NULL);
	return bytes >> PAGE_SHIFT;
}

/* The Task has @tables: Linux shows them with its own. */
static void count(struct mm_struct *mm, unsigned long tables)
{
	long more = tables - xchg(&mm->context.tables, tables);

	if (!more)
		return;
	atomic_long_add(more << PAGE_SHIFT, &mm->pgtables_bytes);
	mod_node_page_state(NODE_DATA(0), NR_PAGETABLE, more);
}

/* Some were perhaps taken away: the next fault may make any of them anew. */
static void count_less(struct mm_struct *mm, unsigned long tables)
{
	if (tables != mm->context.tables)
		mm->context.counted = 0;
	count(mm, tables);
}

/*
 * Most faults lie near the last one, where there is a table already. Only
 * elsewhere the microkernel is asked how many there are now.
 */
void mk_items_taken(struct task_struct *task, unsigned long address)
{
	struct mm_context *context = &task->mm->context;
	unsigned long region = (address & PMD_MASK) | 1;

	if (region != context->counted)
		task->thread.grown = region;
}

void mk_items_applied(struct task_struct *task)
{
	unsigned long region = task->thread.grown;
	struct mm_struct *mm = task->mm;
	u64 tables;

	if (likely(!region))
		return;
	task->thread.grown = 0;
	if (mk_invoke_out(mm->context.task, MK_TASK_TABLES, 0, 0, &tables, NULL))
		return;
	count(mm, tables);
	mm->context.counted = region;
}

long mk_space_unmap(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct mm_context *context = &mm->context;
	unsigned long flags;
	long err = 0;
	u64 tables;

	spin_lock_irqsave(&context->lock, flags);
	WRITE_ONCE(context->around, 0);
	if (context->task) {
		err = mk_invoke_out(context->task, MK_TASK_UNMAP, start,
				    end - start, &tables, NULL);
		if (!err)
			count_less(mm, tables);
	}
	spin_unlock_irqrestore(&context->lock, flags);
	return err;
}

/* Returns the status of the microkernel. */
static long make_task(struct mm_struct *mm)
{
	int slot = mk_slot_alloc();
	long status;

	if (slot < 0)
		return -MK_ERROR_NO_MEMORY;
	status = mk_invoke_status(MK_LINUX_CAP_UNTYPED, MK_UNTYPED_RETYPE,
				  MK_KIND_TASK, 0, slot, 0);
	if (status) {
		mk_slot_free(slot);
		return status;
	}
	mm->context.used = jiffies;
	mm->context.counted = 0;
	mm->context.around = 0;
	list_add(&mm->context.spaces, &spaces);
	WRITE_ONCE(mm->context.task, slot);
	return 0;
}

long mk_space_open(struct mm_struct *mm)
{
	/* Read once: take_task() makes it negative for a moment. */
	long task = READ_ONCE(mm->context.task);
	unsigned long flags;

	if (likely(task > 0))
		return task;
	spin_lock_irqsave(&spaces_lock, flags);
	task = mm->context.task ? 0 : make_task(mm);
	if (!task)
		task = mm->context.task;
	spin_unlock_irqrestore(&spaces_lock, flags);
	return task;
}

static bool in_use(struct mm_struct *mm)
{
	return !cpumask_empty(mm_cpumask(mm)) ||
	       atomic_read(&mm->context.decoupled);
}

/*
 * Takes the Task away from its mm; returns its slot, or 0 if there is none or,
 * unless @closing, if somebody runs in it. The lock of all spaces is held.
 */
static int take_task(struct mm_struct *mm, bool closing)
{
	int task = mm->context.task;

	lockdep_assert_held(&spaces_lock);
	if (!task)
		return 0;
	spin_lock(&mm->context.lock);
	/* To whoever flushes, there still is one. */
	WRITE_ONCE(mm->context.task, -task);
	/* Who comes (switch_mm()) sees it going, or is seen here. */
	smp_mb();
	if (!closing && in_use(mm)) {
		WRITE_ONCE(mm->context.task, task);
		task = 0;
	} else {
		WRITE_ONCE(mm->context.task, 0);
		list_del(&mm->context.spaces);
		count(mm, 0);
	}
	spin_unlock(&mm->context.lock);
	return task;
}

/* Without locks: it may have many tables, and takes its time in steps. */
static void end_task(int task)
{
	WARN_ON(mk_invoke(MK_LINUX_CAP_CSPACE, MK_CSPACE_DELETE, task, 0, 0, 0));
	mk_slot_free(task);
}

void mk_space_close(struct mm_struct *mm)
{
	unsigned long flags;
	int task;

	spin_lock_irqsave(&spaces_lock, flags);
	task = take_task(mm, true);
	spin_unlock_irqrestore(&spaces_lock, flags);
	if (task)
		end_task(task);
}

/*
 * What it is worth to drop a space: its pages, times how long nobody has used
 * it. So a large one goes before many small ones, and an idle one before a busy
 * one.
 */
static u64 worth(struct mm_struct *mm)
{
	unsigned long pages = mm->context.tables;

	if (!in_use(mm))
		pages += TASK_PAGES;
	else if (pages < WORKING_SET)
		return 0;
	return (u64)pages * (jiffies - mm->context.used + 1);
}

/*
 * Whose tables shall go? Those of a decoupled thread last: to drop them
 * interrupts its core, and lets it fault for all that it uses. But silence is
 * not a right to all of the memory: where decoupled threads hold more than half
 * of it, the one that has most goes first.
 */
static struct mm_struct *choose(void)
{
	struct mm_struct *mm, *best = NULL, *loudest = NULL;
	unsigned long silent = 0;
	u64 most = 0;

	list_for_each_entry(mm, &spaces, context.spaces) {
		unsigned long tables = mm->context.tables;

		if (atomic_read(&mm->context.decoupled)) {
			silent += tables;
			if (tables >= WORKING_SET &&
			    (!loudest || tables > loudest->context.tables))
				loudest = mm;
		} else if (worth(mm) > most) {
			most = worth(mm);
			best = mm;
		}
	}
	return loudest && (!best || silent > pool_pages / 2) ? loudest : best;
}

/*
 * Drops one space and adds to *got what that gave back, in pages: nothing where
 * somebody came to run in it meanwhile. False if there is none to drop.
 */
static bool drop_one(unsigned long *got)
{
	unsigned long flags;
	struct mm_struct *mm;
	int task = 0;

	spin_lock_irqsave(&spaces_lock, flags);
	mm = choose();
	if (mm) {
		unsigned long before = mm->context.tables;

		if (mk_space_unmap(mm, 0, MK_USER_END))
			panic("cannot drop the tables of an address space");
		/* Threads that run in it on other CPUs may have made some anew. */
		if (mm->context.tables < before)
			*got += before - mm->context.tables;
		task = take_task(mm, false);
		dropped++;
	}
	spin_unlock_irqrestore(&spaces_lock, flags);
	if (task) {
		end_task(task);
		*got += TASK_PAGES;
	}
	return mm;
}

bool mk_drop_tables(void)
{
	/* Some more than one, so that it is not needed again at once. */
	unsigned long wanted = clamp(pool_pages / 128, 16, 1024), got = 0;

	while (got < wanted && drop_one(&got))
		;
	return got;
}

/* Every address space; those without a Task have nothing to flush. */
void flush_tlb_all(void)
{
	struct mm_struct *mm;
	unsigned long flags;

	spin_lock_irqsave(&spaces_lock, flags);
	list_for_each_entry(mm, &spaces, context.spaces)
		mk_flush_mm(mm, 0, MK_USER_END);
	spin_unlock_irqrestore(&spaces_lock, flags);
}

static ssize_t pool_kb_show(struct kobject *kobj, struct kobj_attribute *attr, char *text)
{
	return sysfs_emit(text, "%lu\n", pool_pages << (PAGE_SHIFT - 10));
}

static ssize_t free_kb_show(struct kobject *kobj, struct kobj_attribute *attr, char *text)
{
	return sysfs_emit(text, "%lu\n", free_pages_of_pool() << (PAGE_SHIFT - 10));
}

static ssize_t dropped_show(struct kobject *kobj, struct kobj_attribute *attr, char *text)
{
	return sysfs_emit(text, "%lu\n", READ_ONCE(dropped));
}

static struct kobj_attribute pool_kb = __ATTR_RO(pool_kb);
static struct kobj_attribute free_kb = __ATTR_RO(free_kb);
static struct kobj_attribute dropped_attr = __ATTR_RO(dropped);

static struct attribute *table_attrs[] = {
	&pool_kb.attr,
	&free_kb.attr,
	&dropped_attr.attr,
	NULL
};

static const struct attribute_group tables_group = {
	.name = "page_tables",
	.attrs = table_attrs,
};

void __init mk_tables_init(void)
{
	pool_pages = free_pages_of_pool();
}

static int __init tables_sysfs_init(void)
{
	return sysfs_create_group(kernel_kobj, &tables_group);
}
device_initcall(tables_sysfs_init);
