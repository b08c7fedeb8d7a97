/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_BARRIER_H
#define __UM_BARRIER_H

/*
 * Devices and other cores are real: the processor's own order holds. It moves
 * only a load before an earlier store to another place (SDM volume 3, 9.2.2),
 * so between CPUs the compiler is all that most barriers must stop.
 */
#define mb()	asm volatile("mfence" : : : "memory")
#define rmb()	asm volatile("lfence" : : : "memory")
#define wmb()	asm volatile("sfence" : : : "memory")

#define dma_rmb()	barrier()
#define dma_wmb()	barrier()

/* Below the stack pointer nothing is kept, and adding zero changes nothing. */
#define __smp_mb()	asm volatile("lock; addl $0, -4(%%rsp)" : : : "memory", "cc")
#define __smp_rmb()	barrier()
#define __smp_wmb()	barrier()
#define __smp_store_mb(var, value)	do { (void)xchg(&(var), value); } while (0)

#define __smp_store_release(p, v)					\
do {									\
	compiletime_assert_atomic_type(*p);				\
	barrier();							\
	WRITE_ONCE(*p, v);						\
} while (0)

#define __smp_load_acquire(p)						\
({									\
	typeof(*p) value__ = READ_ONCE(*p);				\
									\
	compiletime_assert_atomic_type(*p);				\
	barrier();							\
	value__;							\
})

/* Atomic read-modify-write operations are full barriers themselves. */
#define __smp_mb__before_atomic()	do { } while (0)
#define __smp_mb__after_atomic()	do { } while (0)

#include <asm-generic/barrier.h>

#endif
