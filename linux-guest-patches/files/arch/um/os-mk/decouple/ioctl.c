// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/decouple. docs/decouple-abi.md of Tacet describes what callers see.
 */
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/miscdevice.h>
#include <linux/ptrace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <uapi/linux/decouple.h>
#include "decouple.h"

/* Takes a reference. 0 and 0 name the caller; see struct decouple_attach. */
static struct task_struct *find_thread(s32 pid, s32 tid)
{
	struct task_struct *task;

	if (pid < 0 || tid < 0)
		return ERR_PTR(-EINVAL);
	if (!pid && !tid)
		return get_task_struct(current);
	if (!pid)
		pid = task_tgid_vnr(current);

	rcu_read_lock();
	task = find_task_by_vpid(tid ?: pid);
	if (task && task_tgid_vnr(task) == pid)
		get_task_struct(task);
	else
		task = NULL;
	rcu_read_unlock();
	return task ?: ERR_PTR(-ESRCH);
}

/* Whoever may trace a thread may move it. */
static int may_move(struct task_struct *task)
{
	if (!task->mm || task->flags & (PF_KTHREAD | PF_USER_WORKER))
		return task->flags & PF_EXITING ? -ESRCH : -EPERM;
	if (same_thread_group(task, current))
		return 0;
	return ptrace_may_access(task, PTRACE_MODE_ATTACH_REALCREDS) ? 0 :
								       -EPERM;
}

/* Is this claim of the core still the present one, and still to be waited for? */
static bool still_claimed(struct decouple_core *core, u64 generation,
			  bool *entered)
{
	unsigned long flags;
	bool claimed;

	spin_lock_irqsave(&decouple_lock, flags);
	claimed = core->task && core->generation == generation;
	*entered = claimed && core->entered;
	spin_unlock_irqrestore(&decouple_lock, flags);
	return claimed;
}

/*
 * A thread that sleeps or is stopped is in Linux, and goes over, or leaves,
 * before its next instruction in user mode: there is nothing to wait for.
 */
static bool in_linux(struct task_struct *task)
{
	return READ_ONCE(task->__state) != TASK_RUNNING;
}

/* Until the thread went over. Should the caller die, the claim stands. */
static int wait_entered(struct task_struct *task, struct decouple_core *core,
			u64 generation)
{
	bool entered;

	for (;;) {
		if (!still_claimed(core, generation, &entered))
			return -ESRCH;
		if (entered || in_linux(task))
			return 0;
		if (wait_event_killable_timeout(decouple_changed,
				!still_claimed(core, generation, &entered) ||
				entered, 1) < 0)
			return -EINTR;
	}
}

/*
 * Who is in Linux, asleep or not, loses the core here and now, and what it does
 * there goes on undisturbed. Who is away is asked to leave; true then.
 */
static bool must_be_awaited(struct decouple_core *core, u64 generation)
{
	unsigned long flags;
	bool away = false;

	spin_lock_irqsave(&decouple_lock, flags);
	if (core->task && core->generation == generation) {
		away = core->away;
		if (away) {
			WRITE_ONCE(core->leave, true);
			rcuwait_wake_up(&core->wait);
		} else {
			decouple_take_away(core);
		}
	}
	spin_unlock_irqrestore(&decouple_lock, flags);
	return away;
}

/* One that is away may trap by itself, and sleep in Linux: so look again. */
static int take_back(struct decouple_core *core, u64 generation)
{
	bool entered;

	while (must_be_awaited(core, generation))
		if (wait_event_killable_timeout(decouple_changed,
				!still_claimed(core, generation, &entered), 1) < 0)
			return -EINTR;
	return 0;
}

static long attach(struct decouple_file *file,
		   struct decouple_attach __user *user)
{
	struct decouple_attach request;
	struct decouple_core *core;
	struct task_struct *task;
	u64 generation;
	long err;

	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	if (request.flags || request.core < DECOUPLE_CORE_ANY)
		return -EINVAL;

	task = find_thread(request.pid, request.tid);
	if (IS_ERR(task))
		return PTR_ERR(task);

	/* No exec with other credentials between the check and the claim. */
	err = down_read_killable(&task->signal->exec_update_lock);
	if (err)
		goto out_task;
	err = may_move(task);
	if (!err) {
		core = decouple_claim(task, request.core, file, &generation);
		err = PTR_ERR_OR_ZERO(core);
	}
	up_read(&task->signal->exec_update_lock);
	if (err)
		goto out_task;

	/* Who cannot be told which core it is does not get it. */
	if (put_user(core->number, &user->core)) {
		err = take_back(core, generation) ?: -EFAULT;
		goto out_task;
	}

	/* The caller itself goes over when this system call returns. */
	if (task != current) {
		kick_process(task);
		err = wait_entered(task, core, generation);
	}
out_task:
	put_task_struct(task);
	return err;
}

static int bring_back(struct task_struct *task)
{
	struct decouple_core *core;
	unsigned long flags;
	u64 generation;

	spin_lock_irqsave(&decouple_lock, flags);
	core = task->thread.decoupled;
	generation = core ? core->generation : 0;
	spin_unlock_irqrestore(&decouple_lock, flags);
	return core ? take_back(core, generation) : -ENOENT;
}

static long detach(struct decouple_detach __user *user)
{
	struct decouple_detach request;
	struct task_struct *task;
	long err;

	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	if (request.flags || request.reserved)
		return -EINVAL;

	task = find_thread(request.pid, request.tid);
	if (IS_ERR(task))
		return PTR_ERR(task);

	err = may_move(task);
	if (!err)
		err = bring_back(task);
	put_task_struct(task);
	return err;
}

static bool wanted(const struct decouple_reserve *request,
		   struct decouple_core *core)
{
	return core->number < 64 && request->cores[0] & BIT_ULL(core->number);
}

static int check_cores(const struct decouple_reserve *request)
{
	unsigned int number;

	if (request->flags || request->reserved || !request->cores[0])
		return -EINVAL;
	for (number = 0; number < 64; number++) {
		if (!(request->cores[0] & BIT_ULL(number)) ||
		    decouple_find_core(number))
			continue;
		return decouple_is_service_core(number) ? -EINVAL : -ENODEV;
	}
	return 0;
}

/* All or none. */
static int reserve(struct decouple_file *file,
		   const struct decouple_reserve *request)
{
	struct pid *owner = get_task_pid(current, PIDTYPE_TGID);
	unsigned long flags;
	unsigned int i;
	int err = 0;

	spin_lock_irqsave(&decouple_lock, flags);
	for (i = 0; i < decouple_count; i++) {
		struct decouple_core *core = &decouple_cores[i];

		if (!wanted(request, core) || core->reserved == file)
			continue;
		if (core->reserved ||
		    (core->task && !same_thread_group(core->task, current))) {
			err = -EBUSY;
			break;
		}
	}
	if (!err) {
		for (i = 0; i < decouple_count; i++)
			if (wanted(request, &decouple_cores[i]))
				decouple_cores[i].reserved = file;
		swap(file->owner, owner);
	}
	spin_unlock_irqrestore(&decouple_lock, flags);
	put_pid(owner);
	return err;
}

static void unreserve(struct decouple_file *file,
		      const struct decouple_reserve *request)
{
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&decouple_lock, flags);
	for (i = 0; i < decouple_count; i++) {
		struct decouple_core *core = &decouple_cores[i];

		if (core->reserved == file &&
		    (!request || wanted(request, core)))
			core->reserved = NULL;
	}
	spin_unlock_irqrestore(&decouple_lock, flags);
}

static long reserve_or_release(struct decouple_file *file, unsigned int cmd,
			       struct decouple_reserve __user *user)
{
	struct decouple_reserve request;
	int err;

	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	err = check_cores(&request);
	if (err)
		return err;

	if (cmd == DECOUPLE_RESERVE)
		return reserve(file, &request);
	unreserve(file, &request);
	return 0;
}

static long version(struct decouple_version __user *user)
{
	struct decouple_version answer = {
		.abi	= DECOUPLE_ABI,
		.cores	= decouple_count,
	};

	return copy_to_user(user, &answer, sizeof(answer)) ? -EFAULT : 0;
}

static long decouple_ioctl(struct file *filp, unsigned int cmd,
			   unsigned long arg)
{
	struct decouple_file *file = filp->private_data;
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case DECOUPLE_ATTACH:
		return attach(file, user);
	case DECOUPLE_DETACH:
		return detach(user);
	case DECOUPLE_RESERVE:
	case DECOUPLE_RELEASE:
		return reserve_or_release(file, cmd, user);
	case DECOUPLE_VERSION:
		return version(user);
	default:
		return -ENOTTY;
	}
}

static int decouple_open(struct inode *inode, struct file *filp)
{
	filp->private_data = kzalloc(sizeof(struct decouple_file), GFP_KERNEL);
	return filp->private_data ? 0 : -ENOMEM;
}

static int decouple_close(struct inode *inode, struct file *filp)
{
	struct decouple_file *file = filp->private_data;

	unreserve(file, NULL);
	put_pid(file->owner);
	kfree(file);
	return 0;
}

static const struct file_operations decouple_fops = {
	.owner		= THIS_MODULE,
	.open		= decouple_open,
	.release	= decouple_close,
	.unlocked_ioctl	= decouple_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice decouple_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "decouple",
	.fops	= &decouple_fops,
	.mode	= 0666,
};

static int __init decouple_device_init(void)
{
	return misc_register(&decouple_device);
}
device_initcall(decouple_device_init);
