// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/decouple: one value a file.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sysfs.h>
#include <linux/uidgid.h>
#include "decouple.h"

static struct decouple_core *core_of(struct kobject *kobj)
{
	unsigned int i;

	for (i = 0; i < decouple_count; i++)
		if (decouple_cores[i].kobj == kobj)
			return &decouple_cores[i];
	return NULL;
}

static struct task_struct *get_occupant(struct decouple_core *core)
{
	struct task_struct *task;
	unsigned long flags;

	spin_lock_irqsave(&decouple_lock, flags);
	task = core->task ? get_task_struct(core->task) : NULL;
	spin_unlock_irqrestore(&decouple_lock, flags);
	return task;
}

static const char *state_of(struct decouple_core *core)
{
	u32 state = READ_ONCE(core->frame->state);

	if (core->task)
		return core->entered && (state == MK_FRAME_RUNNING ||
					 state == MK_FRAME_ANSWERED) ?
		       "running" : "trapped";
	return core->reserved ? "reserved" : "idle";
}

static ssize_t state_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	const char *state;
	unsigned long flags;

	spin_lock_irqsave(&decouple_lock, flags);
	state = state_of(core_of(kobj));
	spin_unlock_irqrestore(&decouple_lock, flags);
	return sysfs_emit(buf, "%s\n", state);
}

static ssize_t reserved_by_show(struct kobject *kobj,
				struct kobj_attribute *attr, char *buf)
{
	struct decouple_core *core = core_of(kobj);
	unsigned long flags;
	pid_t pid = 0;

	spin_lock_irqsave(&decouple_lock, flags);
	if (core->reserved)
		pid = pid_nr(core->reserved->owner);
	spin_unlock_irqrestore(&decouple_lock, flags);
	return sysfs_emit(buf, "%d\n", pid);
}

/* A file about the occupant: an idle core's shows what stands last. */
#define OCCUPANT(name, format, value, none)				\
static ssize_t name##_show(struct kobject *kobj,			\
			   struct kobj_attribute *attr, char *buf)	\
{									\
	struct task_struct *task = get_occupant(core_of(kobj));		\
	ssize_t len;							\
									\
	if (!task)							\
		return sysfs_emit(buf, none "\n");			\
	len = sysfs_emit(buf, format "\n", value);			\
	put_task_struct(task);						\
	return len;							\
}

OCCUPANT(pid, "%d", task_tgid_nr(task), "0")
OCCUPANT(tid, "%d", task_pid_nr(task), "0")
OCCUPANT(comm, "%s", task->comm, "")
OCCUPANT(uid, "%u", from_kuid_munged(&init_user_ns, task_uid(task)), "0")

/* What a thread does, call by call, is for those who may trace it. */
static bool may_read_counters(struct decouple_core *core)
{
	struct task_struct *task = get_occupant(core);
	bool may;

	if (!task)
		return uid_eq(core->owner, current_fsuid()) ||
		       capable(CAP_SYS_PTRACE);
	may = ptrace_may_access(task, PTRACE_MODE_READ_FSCREDS);
	put_task_struct(task);
	return may;
}

static ssize_t since_ns_show(struct kobject *kobj, struct kobj_attribute *attr,
			     char *buf)
{
	struct decouple_core *core = core_of(kobj);

	return sysfs_emit(buf, "%llu\n",
			  core->task ? core->stats.since_ns : 0ULL);
}

#define COUNTER(name, value)						\
static ssize_t name##_show(struct kobject *kobj,			\
			   struct kobj_attribute *attr, char *buf)	\
{									\
	struct decouple_core *core = core_of(kobj);			\
									\
	if (!may_read_counters(core))					\
		return -EACCES;						\
	return sysfs_emit(buf, "%llu\n", value);			\
}

COUNTER(syscalls, core->stats.syscalls)
COUNTER(faults, core->stats.faults)
COUNTER(traps, core->stats.traps)
COUNTER(stops, core->stats.stops)
COUNTER(answer_ns, decouple_ticks_to_ns(core->stats.answer_ticks))

static ssize_t syscalls_by_number_show(struct kobject *kobj,
				       struct kobj_attribute *attr, char *buf)
{
	struct decouple_core *core = core_of(kobj);
	unsigned int number;
	ssize_t len = 0;

	if (!may_read_counters(core))
		return -EACCES;
	for (number = 0; number < DECOUPLE_SYSCALLS; number++) {
		struct decouple_count *c = &core->stats.by_number[number];

		if (c->count)
			len += sysfs_emit_at(buf, len, "%u %llu %llu\n",
					     number, c->count,
					     decouple_ticks_to_ns(c->ticks));
	}
	return len;
}

#define READ_ONLY(name) \
	static struct kobj_attribute name##_attribute = __ATTR_RO(name)

READ_ONLY(state);
READ_ONLY(reserved_by);
READ_ONLY(pid);
READ_ONLY(tid);
READ_ONLY(comm);
READ_ONLY(uid);
READ_ONLY(since_ns);
READ_ONLY(syscalls);
READ_ONLY(faults);
READ_ONLY(traps);
READ_ONLY(stops);
READ_ONLY(answer_ns);
READ_ONLY(syscalls_by_number);

static struct attribute *core_attributes[] = {
	&state_attribute.attr,
	&reserved_by_attribute.attr,
	&pid_attribute.attr,
	&tid_attribute.attr,
	&comm_attribute.attr,
	&uid_attribute.attr,
	&since_ns_attribute.attr,
	&syscalls_attribute.attr,
	&faults_attribute.attr,
	&traps_attribute.attr,
	&stops_attribute.attr,
	&answer_ns_attribute.attr,
	&syscalls_by_number_attribute.attr,
	NULL
};

static const struct attribute_group core_group = {
	.attrs = core_attributes,
};

static ssize_t cores_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	DECLARE_BITMAP(cores, 64) = { 0 };
	unsigned int i;

	for (i = 0; i < decouple_count; i++)
		__set_bit(decouple_cores[i].number, cores);
	return sysfs_emit(buf, "%*pbl\n", 64, cores);
}

static ssize_t service_cores_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	DECLARE_BITMAP(cores, 64) = { 0 };
	u64 i;

	for (i = 0; i < mk_boot->vcpu_count; i++)
		__set_bit(mk_boot->vcpu_core[i], cores);
	return sysfs_emit(buf, "%*pbl\n", 64, cores);
}

READ_ONLY(cores);
READ_ONLY(service_cores);

static struct attribute *root_attributes[] = {
	&cores_attribute.attr,
	&service_cores_attribute.attr,
	NULL
};

static const struct attribute_group root_group = {
	.attrs = root_attributes,
};

int __init decouple_sysfs_init(void)
{
	struct kobject *root;
	unsigned int i;
	char name[16];
	int err;

	root = kobject_create_and_add("decouple", kernel_kobj);
	if (!root)
		return -ENOMEM;
	err = sysfs_create_group(root, &root_group);

	for (i = 0; !err && i < decouple_count; i++) {
		struct decouple_core *core = &decouple_cores[i];

		snprintf(name, sizeof(name), "core%u", core->number);
		core->kobj = kobject_create_and_add(name, root);
		if (!core->kobj)
			return -ENOMEM;
		err = sysfs_create_group(core->kobj, &core_group);
	}
	return err;
}
