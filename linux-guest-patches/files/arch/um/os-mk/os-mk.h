/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of this directory know of each other. */
#ifndef __OS_MK_H
#define __OS_MK_H

#include <linux/linkage.h>
#include <linux/mm_types.h>
#include <linux/ptrace.h>

struct mk_linux_boot;
struct mk_vcpu_state;

/* entry.S */
asmlinkage void mk_entry(void);
asmlinkage void mk_load_gs(struct mk_vcpu_state *vcpu);
asmlinkage long mk_resume_user(void);
asmlinkage void mk_secondary_entry(void);
asmlinkage void mk_thread_entry(void);
asmlinkage struct task_struct *mk_switch_stack(struct task_struct *from,
					       struct task_struct *to);

/* Called by entry.S and head.S */
asmlinkage void mk_start(struct mk_linux_boot *boot);
asmlinkage void mk_kernel_upcall(struct pt_regs *regs, unsigned int saved_flags);
asmlinkage void mk_new_thread(struct task_struct *prev);
asmlinkage void mk_secondary(void);

/* setup, memory */
void mk_cpuinfo_init(void);
void mk_paging_init(void);
void mk_log_init(void);

/* CPUs: which there may be, and the timer of the one that this is. */
#ifdef CONFIG_SMP
void mk_smp_setup(void);
#else
static inline void mk_smp_setup(void)
{
}
#endif
void mk_timer_start(void);

/* interrupts; with the interrupt flag off */
void mk_handle_pending(struct pt_regs *regs);

/* Run user code until it traps or is interrupted; never returns. */
void mk_user_loop(void) __noreturn;
void mk_user_segments(struct pt_regs *regs);
/* The user context trapped: regs say why. Interrupts are on. */
void mk_user_trap(struct pt_regs *regs);
/* After #GP: was it an instruction that UMIP forbids, and was it emulated? */
bool mk_emulate_umip(struct pt_regs *regs);
void mk_do_syscall(struct pt_regs *regs);
void mk_do_signal(struct pt_regs *regs);

/*
 * Make @address in the current mm accessible; 0, or the signal's si_code with
 * the signal in *@sig. FAULT_FLAG_USER in @flags: user code faulted.
 */
int mk_fault_in(unsigned long address, unsigned int flags, int *sig);

/* What the microkernel may let the user do with an entry: MK_MAP_*, 0: nothing. */
unsigned int mk_pte_rights(pte_t pte);
pmd_t *mk_find_pmd(struct mm_struct *mm, unsigned long address);
pte_t *mk_find_pte(struct mm_struct *mm, unsigned long address);
/* Enter a page of vmalloc memory that grants the MK_MAP_* right @need. */
bool mk_map_kernel_page(unsigned long address, unsigned int need);

/* page tables */
void mk_tables_init(void);
/* Items near @address are being made for @task. */
void mk_items_taken(struct task_struct *task, unsigned long address);
/* A Task's end, for the microkernel: its last page is not for programs. */
#define MK_USER_END	(1UL << 47)
/* Take a range out of the Task, if @mm has one. The microkernel's status. */
long mk_space_unmap(struct mm_struct *mm, unsigned long start, unsigned long end);
/*
 * The microkernel has no memory for page tables: take some from address spaces
 * that need them least. False: nothing is left. In any context.
 */
bool mk_drop_tables(void);

/* extended state */
void mk_fpu_load(void);
void mk_fpu_switch_out(struct task_struct *task);
void mk_fpu_reset(struct task_struct *task);
void mk_fpu_copy(struct task_struct *from, struct task_struct *to);
void mk_fpu_forget(struct task_struct *task);
/* @task->thread.fpu.xsave was written in place: it is the newest now. */
void mk_fpu_written(struct task_struct *task);
/* MK_XSAVE_MAX bytes that XRSTOR accepts become the state of @task. */
void mk_fpu_replace(struct task_struct *task, const u8 *state);
/* Does XRSTOR accept @state, which came from the user (SDM volume 1, 13.8.1)? */
bool mk_fpu_accepted(u8 *state);
/* Has @mxcsr only bits that exist (SDM volume 1, 11.6.6)? */
bool mk_fpu_mxcsr_valid(u32 mxcsr);

/* The kernel cannot go on from here. */
void mk_die(const char *what, struct pt_regs *regs);

#endif
