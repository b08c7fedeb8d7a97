/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_PERCPU_H
#define __UM_PERCPU_H

/*
 * A word of the vCPU's page holds the offset of this CPU's variables. An
 * operation is then two instructions: read the offset, change the variable.
 * Interrupts may come between them, but no other thread: the kernel is not
 * preemptible, and the interrupt returns to this CPU.
 */
#ifdef CONFIG_SMP

#include <asm/asm.h>
#include <asm/current.h>

#ifdef CONFIG_PREEMPTION
#error "an operation on a per-CPU variable must not be moved to another CPU"
#endif

static __always_inline unsigned long mk_percpu_offset(void)
{
	unsigned long offset;

	/* Not volatile; but another value after whatever touches memory. */
	asm("movq %%gs:%c1, %0"
	    : "=r" (offset)
	    : "i" (MK_VCPU_PERCPU), "m" (*(const unsigned long *)current_stack_pointer));
	return offset;
}
#define __my_cpu_offset mk_percpu_offset()

#define mk_percpu_change(suffix, op, pcp, val)				\
	asm volatile(op suffix " %1, %0"				\
		     : "+m" (*raw_cpu_ptr(&(pcp)))			\
		     : "re" ((typeof(pcp))(val)) : "cc")
#define mk_percpu_change_byte(op, pcp, val)				\
	asm volatile(op "b %1, %0"					\
		     : "+m" (*raw_cpu_ptr(&(pcp)))			\
		     : "qi" ((typeof(pcp))(val)) : "cc")

/* No lock prefix: only this CPU writes. */
#define mk_percpu_add_return(pcp, val)					\
({									\
	typeof(pcp) add__ = (typeof(pcp))(val), new__ = add__;		\
									\
	asm volatile("xadd %0, %1"					\
		     : "+r" (new__), "+m" (*raw_cpu_ptr(&(pcp)))	\
		     : : "cc", "memory");				\
	(typeof(pcp))(new__ + add__);					\
})
#define mk_percpu_cmpxchg(pcp, oval, nval)				\
({									\
	typeof(pcp) old__ = (oval);					\
									\
	asm volatile("cmpxchg %2, %1"					\
		     : "+a" (old__), "+m" (*raw_cpu_ptr(&(pcp)))	\
		     : "r" ((typeof(pcp))(nval)) : "cc", "memory");	\
	old__;								\
})
#define mk_percpu_xchg(pcp, nval)					\
({									\
	typeof(pcp) new__ = (nval), old__ = READ_ONCE(*raw_cpu_ptr(&(pcp))), seen__; \
									\
	while ((seen__ = mk_percpu_cmpxchg(pcp, old__, new__)) != old__) \
		old__ = seen__;						\
	old__;								\
})

#define this_cpu_read_1(pcp)	READ_ONCE(*raw_cpu_ptr(&(pcp)))
#define this_cpu_read_2(pcp)	READ_ONCE(*raw_cpu_ptr(&(pcp)))
#define this_cpu_read_4(pcp)	READ_ONCE(*raw_cpu_ptr(&(pcp)))
#define this_cpu_read_8(pcp)	READ_ONCE(*raw_cpu_ptr(&(pcp)))
#define this_cpu_write_1(pcp, val)	WRITE_ONCE(*raw_cpu_ptr(&(pcp)), val)
#define this_cpu_write_2(pcp, val)	WRITE_ONCE(*raw_cpu_ptr(&(pcp)), val)
#define this_cpu_write_4(pcp, val)	WRITE_ONCE(*raw_cpu_ptr(&(pcp)), val)
#define this_cpu_write_8(pcp, val)	WRITE_ONCE(*raw_cpu_ptr(&(pcp)), val)
#define this_cpu_add_1(pcp, val)	mk_percpu_change_byte("add", pcp, val)
#define this_cpu_add_2(pcp, val)	mk_percpu_change("w", "add", pcp, val)
#define this_cpu_add_4(pcp, val)	mk_percpu_change("l", "add", pcp, val)
#define this_cpu_add_8(pcp, val)	mk_percpu_change("q", "add", pcp, val)
#define this_cpu_and_1(pcp, val)	mk_percpu_change_byte("and", pcp, val)
#define this_cpu_and_2(pcp, val)	mk_percpu_change("w", "and", pcp, val)
#define this_cpu_and_4(pcp, val)	mk_percpu_change("l", "and", pcp, val)
#define this_cpu_and_8(pcp, val)	mk_percpu_change("q", "and", pcp, val)
#define this_cpu_or_1(pcp, val)		mk_percpu_change_byte("or", pcp, val)
#define this_cpu_or_2(pcp, val)		mk_percpu_change("w", "or", pcp, val)
#define this_cpu_or_4(pcp, val)		mk_percpu_change("l", "or", pcp, val)
#define this_cpu_or_8(pcp, val)		mk_percpu_change("q", "or", pcp, val)
#define this_cpu_add_return_4(pcp, val)	mk_percpu_add_return(pcp, val)
#define this_cpu_add_return_8(pcp, val)	mk_percpu_add_return(pcp, val)
#define this_cpu_xchg_4(pcp, nval)	mk_percpu_xchg(pcp, nval)
#define this_cpu_xchg_8(pcp, nval)	mk_percpu_xchg(pcp, nval)
#define this_cpu_cmpxchg_4(pcp, oval, nval)	mk_percpu_cmpxchg(pcp, oval, nval)
#define this_cpu_cmpxchg_8(pcp, oval, nval)	mk_percpu_cmpxchg(pcp, oval, nval)

#endif /* CONFIG_SMP */

#include <asm-generic/percpu.h>

#endif
