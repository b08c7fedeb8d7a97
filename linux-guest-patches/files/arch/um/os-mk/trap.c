// SPDX-License-Identifier: GPL-2.0
/* Traps of the user, page faults, and traps of the kernel itself. */

#include <linux/extable.h>
#include <linux/hardirq.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched/debug.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <asm/mk.h>
#include <asm/trapnr.h>
#include "os-mk.h"

/* Error code of a page fault (SDM volume 3, 4.7). */
#define PF_PROT		1
#define PF_WRITE	2
#define PF_INSTR	16

static bool vma_allows(struct vm_area_struct *vma, unsigned int flags)
{
	if (flags & FAULT_FLAG_WRITE)
		return vma->vm_flags & VM_WRITE;
	if (flags & FAULT_FLAG_INSTRUCTION)
		return vma->vm_flags & VM_EXEC;
	return vma->vm_flags & (VM_READ | VM_EXEC | VM_WRITE);
}

/* The vma at @address with the mmap lock held for reading, or NULL without. */
static struct vm_area_struct *lock_vma(struct mm_struct *mm, unsigned long address)
{
	struct vm_area_struct *vma;

	if (mmap_read_lock_killable(mm))
		return NULL;
	vma = find_vma(mm, address);
	if (vma && vma->vm_start <= address)
		return vma;
	if (!vma || !(vma->vm_flags & VM_GROWSDOWN)) {
		mmap_read_unlock(mm);
		return NULL;
	}

	/* The stack grows: that takes the lock for writing. */
	mmap_read_unlock(mm);
	if (mmap_write_lock_killable(mm))
		return NULL;
	vma = find_vma(mm, address);
	if (!vma || (vma->vm_start > address &&
		     (!(vma->vm_flags & VM_GROWSDOWN) ||
		      expand_stack_locked(vma, address)))) {
		mmap_write_unlock(mm);
		return NULL;
	}
	mmap_write_downgrade(mm);
	return vma;
}

int mk_fault_in(unsigned long address, unsigned int flags, int *sig)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	vm_fault_t fault;
	int code;

	*sig = SIGSEGV;
	if (!mm || address >= TASK_SIZE)
		return SEGV_MAPERR;
	flags |= FAULT_FLAG_DEFAULT;
retry:
	vma = lock_vma(mm, address);
	if (!vma)
		return SEGV_MAPERR;
	if (!vma_allows(vma, flags)) {
		mmap_read_unlock(mm);
		return SEGV_ACCERR;
	}

	fault = handle_mm_fault(vma, address, flags,
				flags & FAULT_FLAG_USER ? current_pt_regs() : NULL);
	/*
	 * User code goes back to its loop for any signal and faults again. A
	 * system call that reads or writes memory ends only if the thread dies.
	 */
	if (flags & FAULT_FLAG_USER) {
		if (fault_signal_pending(fault, current_pt_regs()))
			return 0;
	} else if (fault & VM_FAULT_RETRY && fatal_signal_pending(current)) {
		return SEGV_MAPERR;
	}
	if (fault & VM_FAULT_COMPLETED)
		goto done;
	if (fault & VM_FAULT_RETRY) {
		flags |= FAULT_FLAG_TRIED;
		goto retry;
	}
	mmap_read_unlock(mm);

	if (likely(!(fault & VM_FAULT_ERROR)))
		goto done;
	if (fault & VM_FAULT_OOM) {
		if (!(flags & FAULT_FLAG_USER))
			return SEGV_MAPERR;
		pagefault_out_of_memory();
		return 0;
	}
	if (fault & VM_FAULT_SIGSEGV)
		return SEGV_MAPERR;
	*sig = SIGBUS;
	code = fault & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE) ?
		BUS_MCEERR_AR : BUS_ADRERR;
	return code;

done:
	/* Also where the entry was already there and only the Task lacked it. */
	mk_note_fault(mm, address, 1);
	return 0;
}

static void report_fault(struct pt_regs *regs, int sig)
{
	if (!unhandled_signal(current, sig) || !printk_ratelimit())
		return;
	pr_info("%s[%d]: trap %lu at %lx ip %lx sp %lx error %lx",
		current->comm, task_pid_nr(current), regs->regs.trapno,
		regs->regs.address, PT_REGS_IP(regs), PT_REGS_SP(regs),
		regs->regs.error);
	print_vma_addr(KERN_CONT " in ", PT_REGS_IP(regs));
	pr_cont("\n");
}

static void send_fault(struct pt_regs *regs, int sig, int code, unsigned long address)
{
	struct thread_struct *thread = &current->thread;

	thread->trapno = regs->regs.trapno;
	thread->error = regs->regs.error;
	thread->address = regs->regs.address;
	/* What is mapped beyond the user's half is nobody's business. */
	if (thread->trapno == X86_TRAP_PF && thread->address >= TASK_SIZE_MAX)
		thread->error |= PF_PROT;
	if (sig != SIGTRAP)
		report_fault(regs, sig);
	if (code == SI_KERNEL)
		force_sig(sig);
	else
		force_sig_fault(sig, code, (void __user *)address);
}

static unsigned int needed_right(unsigned long error)
{
	return error & PF_WRITE ? MK_MAP_WRITE :
	       error & PF_INSTR ? MK_MAP_EXEC : MK_MAP_READ;
}

/* Is Linux's entry as the access wants it, and only the Task lacks it? */
static bool entry_allows(unsigned long address, unsigned long error)
{
	unsigned int need = needed_right(error);
	unsigned long flags;
	bool allows = false;
	pte_t *pte;

	if (address >= TASK_SIZE)
		return false;
	local_irq_save(flags);
	pte = mk_find_pte(current->mm, address);
	if (pte)
		allows = mk_pte_rights(READ_ONCE(*pte)) & need;
	local_irq_restore(flags);
	return allows;
}

static void user_page_fault(struct pt_regs *regs)
{
	unsigned long address = regs->regs.address;
	unsigned int flags = FAULT_FLAG_USER;
	int sig, code;

	if (entry_allows(address, regs->regs.error)) {
		/* Perhaps not the only one that came without a fault of its own. */
		WRITE_ONCE(current->mm->context.around, 0);
		mk_note_fault(current->mm, address, 1);
		return;
	}
	if (regs->regs.error & PF_WRITE)
		flags |= FAULT_FLAG_WRITE;
	else if (regs->regs.error & PF_INSTR)
		flags |= FAULT_FLAG_INSTRUCTION;
	code = mk_fault_in(address, flags, &sig);
	if (code)
		send_fault(regs, sig, code, address);
}

/* x87 (SDM volume 1, 8.5) and SSE (11.5) name the exception in their status. */
static int fp_code(bool sse)
{
	const u8 *state = current->thread.fpu.xsave;
	u16 status;

	mk_fpu_save(current);
	if (sse) {
		u32 mxcsr = *(const u32 *)(state + 24);

		status = mxcsr & ~(mxcsr >> 7);
	} else {
		status = *(const u16 *)(state + 2) & ~*(const u16 *)state;
	}
	if (status & 0x01)
		return FPE_FLTINV;
	if (status & 0x04)
		return FPE_FLTDIV;
	if (status & 0x08)
		return FPE_FLTOVF;
	if (status & 0x12)
		return FPE_FLTUND;
	if (status & 0x20)
		return FPE_FLTRES;
	return FPE_FLTUNK;
}

void mk_user_trap(struct pt_regs *regs)
{
	unsigned long ip = PT_REGS_IP(regs);

	switch (regs->regs.trapno) {
	case MK_TRAP_SYSCALL:
		mk_do_syscall(regs);
		break;
	case X86_TRAP_PF:
		user_page_fault(regs);
		break;
	case MK_TRAP_IRQ:
	case MK_TRAP_STOP:
		break;
	case X86_TRAP_DE:
		send_fault(regs, SIGFPE, FPE_INTDIV, ip);
		break;
	case X86_TRAP_DB:
		send_fault(regs, SIGTRAP, TRAP_TRACE, ip);
		break;
	case X86_TRAP_BP:
		send_fault(regs, SIGTRAP, SI_KERNEL, 0);
		break;
	case X86_TRAP_UD:
		send_fault(regs, SIGILL, ILL_ILLOPN, ip);
		break;
	case X86_TRAP_MF:
		send_fault(regs, SIGFPE, fp_code(false), ip);
		break;
	case X86_TRAP_XF:
		send_fault(regs, SIGFPE, fp_code(true), ip);
		break;
	case X86_TRAP_AC:
		send_fault(regs, SIGBUS, BUS_ADRALN, 0);
		break;
	case X86_TRAP_GP:
		if (!mk_emulate_umip(regs))
			send_fault(regs, SIGSEGV, SI_KERNEL, 0);
		break;
	case X86_TRAP_NP:
	case X86_TRAP_SS:
		send_fault(regs, SIGBUS, SI_KERNEL, 0);
		break;
	case MK_TRAP_REFUSED:
		current->thread.grown = 0;
		/* It faults again for what was not mapped. */
		if (regs->regs.error == MK_ERROR_NO_MEMORY && mk_drop_tables())
			break;
		pr_err_ratelimited("%s[%d]: the microkernel refused to run it: error %lu, ip %lx\n",
				   current->comm, task_pid_nr(current),
				   regs->regs.error, ip);
		force_fatal_sig(SIGSEGV);
		break;
	default:
		/* What only a broken program raises. */
		send_fault(regs, SIGSEGV, SI_KERNEL, 0);
		break;
	}
}

static bool kernel_exception(struct pt_regs *regs)
{
	const struct exception_table_entry *entry;

	if (regs->regs.trapno == X86_TRAP_PF &&
	    mk_map_kernel_page(regs->regs.address, needed_right(regs->regs.error)))
		return true;
	entry = search_exception_tables(PT_REGS_IP(regs));
	if (!entry)
		return false;
	PT_REGS_IP(regs) = entry->fixup;
	return true;
}

/* Linux's own code was interrupted, or raised an exception. */
asmlinkage __visible void mk_kernel_upcall(struct pt_regs *regs, unsigned int saved_flags)
{
	struct mk_vcpu_state *vcpu = mk_vcpu_of(mk_cpu());

	if (regs->regs.trapno == MK_TRAP_IRQ)
		mk_handle_pending(regs);
	else if (!kernel_exception(regs))
		mk_die("Exception in kernel code", regs);

	if (!(saved_flags & MK_VCPU_IRQ))
		return;
	for (;;) {
		WRITE_ONCE(vcpu->flags, MK_VCPU_EXC | MK_VCPU_IRQ);
		barrier();
		if (likely(!READ_ONCE(vcpu->pending)))
			break;
		WRITE_ONCE(vcpu->flags, MK_VCPU_EXC);
		mk_handle_pending(regs);
	}
}
