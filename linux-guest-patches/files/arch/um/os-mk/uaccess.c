// SPDX-License-Identifier: GPL-2.0
/*
 * Access to user memory through Linux's own mapping of the page.
 *
 * The page table's lock is held while a page is touched: whoever takes the
 * page away clears its entry under that lock first, so the page cannot be
 * freed under us. Where the entry does not allow the access, the fault that
 * the user would take is taken here.
 */

#include <linux/export.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <asm/futex.h>
#include <asm/mk.h>
#include "os-mk.h"

/*
 * Lock @address's entry if it allows the access; returns where the byte is in
 * Linux's memory, NULL if a fault is needed.
 */
static void *lock_user(unsigned long address, bool write, pte_t **pte, spinlock_t **ptl)
{
	struct mm_struct *mm = current->mm;
	unsigned int rights;
	pmd_t *pmd;

	/* Against tables being freed between the walk and the lock. */
	rcu_read_lock();
	pmd = mk_find_pmd(mm, address);
	*pte = pmd ? pte_offset_map_lock(mm, pmd, address, ptl) : NULL;
	rcu_read_unlock();
	if (!*pte)
		return NULL;
	rights = mk_pte_rights(**pte);
	if ((rights & (write ? MK_MAP_WRITE : MK_MAP_READ)) && pfn_valid(pte_pfn(**pte))) {
		if (!pte_young(**pte))
			set_pte(*pte, pte_mkyoung(**pte));
		return __va((unsigned long)pte_pfn(**pte) << PAGE_SHIFT) +
			(address & ~PAGE_MASK);
	}
	pte_unmap_unlock(*pte, *ptl);
	return NULL;
}

static void *get_user_page(unsigned long address, bool write, pte_t **pte, spinlock_t **ptl)
{
	void *mem;
	int sig;

	if (unlikely(!current->mm || address >= TASK_SIZE))
		return NULL;
	while (!(mem = lock_user(address, write, pte, ptl))) {
		if (faulthandler_disabled())
			return NULL;
		might_sleep();
		if (mk_fault_in(address, write ? FAULT_FLAG_WRITE : 0, &sig))
			return NULL;
	}
	return mem;
}

enum op { FROM_USER, TO_USER, CLEAR };

/* Returns how many bytes could not be done. */
static unsigned long do_user(unsigned long user, void *kernel, unsigned long n, enum op op)
{
	while (n) {
		unsigned long chunk = min(n, PAGE_SIZE - (user & ~PAGE_MASK));
		spinlock_t *ptl;
		pte_t *pte;
		void *mem;

		mem = get_user_page(user, op != FROM_USER, &pte, &ptl);
		if (!mem)
			break;
		switch (op) {
		case FROM_USER:
			memcpy(kernel, mem, chunk);
			break;
		case TO_USER:
			memcpy(mem, kernel, chunk);
			break;
		case CLEAR:
			memset(mem, 0, chunk);
			break;
		}
		pte_unmap_unlock(pte, ptl);
		user += chunk;
		kernel += chunk;
		n -= chunk;
	}
	return n;
}

unsigned long raw_copy_from_user(void *to, const void __user *from, unsigned long n)
{
	return do_user((unsigned long)from, to, n, FROM_USER);
}
EXPORT_SYMBOL(raw_copy_from_user);

unsigned long raw_copy_to_user(void __user *to, const void *from, unsigned long n)
{
	return do_user((unsigned long)to, (void *)from, n, TO_USER);
}
EXPORT_SYMBOL(raw_copy_to_user);

unsigned long __clear_user(void __user *mem, unsigned long n)
{
	return do_user((unsigned long)mem, NULL, n, CLEAR);
}
EXPORT_SYMBOL(__clear_user);

/*
 * Length of the string at @user up to and without its zero byte, at most @max;
 * copied to @dst if that is not NULL. -EFAULT on a fault.
 */
static long user_string(char *dst, unsigned long user, long max, bool *ended)
{
	long done = 0;

	*ended = false;
	while (done < max) {
		long chunk = min_t(long, max - done, PAGE_SIZE - ((user + done) & ~PAGE_MASK));
		spinlock_t *ptl;
		pte_t *pte;
		char *mem;
		long n;

		mem = get_user_page(user + done, false, &pte, &ptl);
		if (!mem)
			return -EFAULT;
		n = strnlen(mem, chunk);
		if (dst)
			memcpy(dst + done, mem, n);
		pte_unmap_unlock(pte, ptl);
		done += n;
		if (n < chunk) {
			*ended = true;
			break;
		}
	}
	return done;
}

long strncpy_from_user(char *dst, const char __user *src, long count)
{
	bool ended;
	long n;

	if (count <= 0)
		return 0;
	if (!access_ok(src, 1))
		return -EFAULT;
	n = user_string(dst, (unsigned long)src, count, &ended);
	if (n >= 0 && ended)
		dst[n] = 0;
	return n;
}
EXPORT_SYMBOL(strncpy_from_user);

/* With the zero byte; more than @count where there is none, 0 on a fault. */
long strnlen_user(const char __user *str, long count)
{
	bool ended;
	long n;

	if (count <= 0 || !access_ok(str, 1))
		return 0;
	n = user_string(NULL, (unsigned long)str, count, &ended);
	return n < 0 ? 0 : n + 1;
}
EXPORT_SYMBOL(strnlen_user);

/*
 * Atomic also against decoupled threads, which run on other cores while this
 * kernel may be compiled for one: the lock prefix is written out.
 */
static u32 locked_cmpxchg(u32 *p, u32 old, u32 new)
{
	asm volatile("lock; cmpxchgl %2, %1"
		     : "+a" (old), "+m" (*p) : "r" (new) : "memory", "cc");
	return old;
}

int arch_futex_atomic_op_inuser(int op, u32 oparg, int *oval, u32 __user *uaddr)
{
	u32 old, new, *mem;
	spinlock_t *ptl;
	int ret = 0;
	pte_t *pte;

	if (!access_ok(uaddr, sizeof(*uaddr)))
		return -EFAULT;
	mem = get_user_page((unsigned long)uaddr, true, &pte, &ptl);
	if (!mem)
		return -EFAULT;
	do {
		old = READ_ONCE(*mem);
		switch (op) {
		case FUTEX_OP_SET:
			new = oparg;
			break;
		case FUTEX_OP_ADD:
			new = old + oparg;
			break;
		case FUTEX_OP_OR:
			new = old | oparg;
			break;
		case FUTEX_OP_ANDN:
			new = old & ~oparg;
			break;
		case FUTEX_OP_XOR:
			new = old ^ oparg;
			break;
		default:
			ret = -ENOSYS;
			goto out;
		}
	} while (locked_cmpxchg(mem, old, new) != old);
	*oval = old;
out:
	pte_unmap_unlock(pte, ptl);
	return ret;
}
EXPORT_SYMBOL(arch_futex_atomic_op_inuser);

int futex_atomic_cmpxchg_inatomic(u32 *uval, u32 __user *uaddr, u32 oldval, u32 newval)
{
	spinlock_t *ptl;
	pte_t *pte;
	u32 *mem;

	if (!access_ok(uaddr, sizeof(*uaddr)))
		return -EFAULT;
	mem = get_user_page((unsigned long)uaddr, true, &pte, &ptl);
	if (!mem)
		return -EFAULT;
	*uval = locked_cmpxchg(mem, oldval, newval);
	pte_unmap_unlock(pte, ptl);
	return 0;
}
EXPORT_SYMBOL(futex_atomic_cmpxchg_inatomic);
