// SPDX-License-Identifier: GPL-2.0
/* Signals: frames as x86-64 Linux lays them out, with the whole xstate. */

#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <asm/elf.h>
#include <asm/mk.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include "os-mk.h"

struct rt_sigframe {
	char __user *pretcode;
	struct ucontext uc;
	struct siginfo info;
	/* The extended state follows at the next multiple of 64. */
};

#define RED_ZONE	128
#define EFLAGS_DF	0x400
#define EFLAGS_TF	0x100
#define EFLAGS_RF	0x10000
/* Flags that a handler may change: arithmetic, DF, TF, RF, AC. */
#define EFLAGS_FIX	0x50dd5UL
/* Where software finds what is in the frame: sw_reserved of the FXSAVE area. */
#define OFFSET_SW	464
/* The header behind the legacy area; x87 and SSE, which that area holds. */
#define XSTATE_HEADER	64
#define XFEATURES_LEGACY	3

static u32 xstate_size(void)
{
	return mk_boot->xsave_bytes ?: sizeof(struct _fpstate);
}

unsigned long mk_sigframe_size(void)
{
	return sizeof(struct rt_sigframe) + RED_ZONE + 64 +
		xstate_size() + FP_XSTATE_MAGIC2_SIZE;
}

static bool put_xstate(void __user *to)
{
	struct mk_fpu *fpu = &current->thread.fpu;
	struct _fpx_sw_bytes sw = {
		.magic1		= FP_XSTATE_MAGIC1,
		.extended_size	= xstate_size() + FP_XSTATE_MAGIC2_SIZE,
		.xfeatures	= mk_boot->xcr0,
		.xstate_size	= xstate_size(),
	};

	mk_fpu_save(current);
	if (copy_to_user(to, fpu->xsave, xstate_size()))
		return false;
	if (!mk_boot->xsave_bytes)
		return true;
	return !copy_to_user(to + OFFSET_SW, &sw, sizeof(sw)) &&
	       !put_user(FP_XSTATE_MAGIC2, (u32 __user *)(to + xstate_size()));
}

/*
 * How much of the state at @from to take, and in @features which components of
 * it: a frame that a program shortened, or knows less of, has the legacy state
 * alone. 0 if @from cannot be read.
 */
static u32 frame_size(void __user *from, u64 *features)
{
	struct _fpx_sw_bytes sw;
	u32 magic2;

	*features = XFEATURES_LEGACY;
	if (copy_from_user(&sw, from + OFFSET_SW, sizeof(sw)))
		return 0;
	if (!mk_boot->xsave_bytes || sw.magic1 != FP_XSTATE_MAGIC1 ||
	    sw.xstate_size < sizeof(struct _fpstate) + XSTATE_HEADER ||
	    sw.xstate_size > xstate_size() || sw.xstate_size > sw.extended_size)
		return sizeof(struct _fpstate);
	if (get_user(magic2, (u32 __user *)(from + sw.xstate_size)))
		return 0;
	if (magic2 != FP_XSTATE_MAGIC2)
		return sizeof(struct _fpstate);
	*features = sw.xfeatures;
	return sw.xstate_size;
}

/*
 * Reads straight into the thread's memory: that is the only place of its state
 * from the reset on, and it does not run before the end. Where this fails it
 * ends by SIGSEGV with the initial state, as on x86.
 */
static bool get_xstate(void __user *from)
{
	u8 *xsave = current->thread.fpu.xsave;
	u64 *header = (u64 *)(xsave + sizeof(struct _fpstate));
	u32 size, align;
	u64 features;

	mk_fpu_reset(current);
	if (!from)
		return true;
	size = frame_size(from, &features);
	/* As XRSTOR and FXRSTOR want it. */
	align = size == sizeof(struct _fpstate) ? 16 : 64;
	if (!size || !IS_ALIGNED((unsigned long)from, align) ||
	    copy_from_user(xsave, from, size))
		goto bad;
	if (size == sizeof(struct _fpstate))
		header[0] = features;
	if (!mk_fpu_accepted(xsave))
		goto bad;
	/* The processor looks at the first three words of the header only. */
	header[0] &= features;
	memset(header + 3, 0, XSTATE_HEADER - 3 * sizeof(*header));
	return true;

bad:
	mk_fpu_reset(current);
	return false;
}

#define SIGCONTEXT_REGS(X)						\
	X(R8, r8) X(R9, r9) X(R10, r10) X(R11, r11) X(R12, r12)		\
	X(R13, r13) X(R14, r14) X(R15, r15) X(DI, di) X(SI, si)		\
	X(BP, bp) X(BX, bx) X(DX, dx) X(AX, ax) X(CX, cx) X(SP, sp)	\
	X(IP, ip)

static bool put_sigcontext(struct sigcontext __user *to, struct pt_regs *regs,
			   void __user *fp, sigset_t *set)
{
	struct thread_struct *thread = &current->thread;
	struct sigcontext sc = { };

#define PUT(reg, field) sc.field = PT_REGS_REG(regs, reg);
	SIGCONTEXT_REGS(PUT)
#undef PUT
	sc.flags = PT_REGS_EFLAGS(regs);
	sc.cs = PT_REGS_REG(regs, CS);
	sc.ss = PT_REGS_REG(regs, SS);
	sc.err = thread->error;
	sc.trapno = thread->trapno;
	sc.cr2 = thread->address;
	sc.oldmask = set->sig[0];
	sc.fpstate = (unsigned long)fp;
	return !copy_to_user(to, &sc, sizeof(sc));
}

static bool get_sigcontext(struct sigcontext __user *from, struct pt_regs *regs,
			   bool strict_ss)
{
	struct sigcontext sc;

	/* Always make any pending restarted system calls return -EINTR */
	current->restart_block.fn = do_no_restart_syscall;

	if (copy_from_user(&sc, from, sizeof(sc)))
		return false;
	/* Others than the flat segments would fault on the way to user mode. */
	if ((sc.cs | 3) != PT_REGS_REG(regs, CS) ||
	    (strict_ss && (sc.ss | 3) != PT_REGS_REG(regs, SS)))
		return false;
#define GET(reg, field) PT_REGS_REG(regs, reg) = sc.field;
	SIGCONTEXT_REGS(GET)
#undef GET
	PT_REGS_EFLAGS(regs) = (PT_REGS_EFLAGS(regs) & ~EFLAGS_FIX) |
			       (sc.flags & EFLAGS_FIX);
	/* No restart of the system call that the frame came from. */
	PT_REGS_SYSCALL_NR(regs) = -1;
	return get_xstate((void __user *)sc.fpstate);
}

static int setup_frame(struct ksignal *ksig, struct pt_regs *regs, sigset_t *set)
{
	struct rt_sigframe __user *frame;
	unsigned long sp, fp;
	bool entering;

	/* x86-64 always has a restorer. */
	if (!(ksig->ka.sa.sa_flags & SA_RESTORER))
		return -EFAULT;

	sp = PT_REGS_SP(regs) - RED_ZONE;
	entering = ksig->ka.sa.sa_flags & SA_ONSTACK && !sas_ss_flags(sp);
	sp = sigsp(sp, ksig);
	fp = round_down(sp - xstate_size() - FP_XSTATE_MAGIC2_SIZE, 64);
	/* A called function finds its stack 8 off a multiple of 16. */
	frame = (void __user *)(round_down(fp - sizeof(*frame), 16) - 8);

	/* The frame must not run out of the alternate stack, new or in use. */
	if ((entering || on_sig_stack(PT_REGS_SP(regs))) &&
	    !__on_sig_stack((unsigned long)frame))
		return -EFAULT;
	if (!access_ok(frame, sp - (unsigned long)frame))
		return -EFAULT;

	if (!put_xstate((void __user *)fp) ||
	    put_user(UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
		     &frame->uc.uc_flags) ||
	    put_user(NULL, &frame->uc.uc_link) ||
	    __save_altstack(&frame->uc.uc_stack, PT_REGS_SP(regs)) ||
	    !put_sigcontext(&frame->uc.uc_mcontext, regs, (void __user *)fp, set) ||
	    copy_to_user(&frame->uc.uc_sigmask, set, sizeof(*set)) ||
	    put_user((char __user *)ksig->ka.sa.sa_restorer, &frame->pretcode))
		return -EFAULT;
	if ((ksig->ka.sa.sa_flags & SA_SIGINFO) &&
	    copy_siginfo_to_user(&frame->info, &ksig->info))
		return -EFAULT;

	PT_REGS_SP(regs) = (unsigned long)frame;
	PT_REGS_IP(regs) = (unsigned long)ksig->ka.sa.sa_handler;
	PT_REGS_AX(regs) = 0;
	PT_REGS_REG(regs, DI) = ksig->sig;
	PT_REGS_REG(regs, SI) = (unsigned long)&frame->info;
	PT_REGS_REG(regs, DX) = (unsigned long)&frame->uc;
	PT_REGS_EFLAGS(regs) &= ~(EFLAGS_DF | EFLAGS_RF | EFLAGS_TF);
	/* A handler may rely on the control words that a program starts with. */
	mk_fpu_reset(current);
	return 0;
}

/* Go back to before the SYSCALL instruction, to make system call @nr. */
static void restart(struct pt_regs *regs, unsigned long nr)
{
	PT_REGS_AX(regs) = nr;
	PT_REGS_IP(regs) -= 2;
}

static void handle_signal(struct ksignal *ksig, struct pt_regs *regs)
{
	bool step = test_thread_flag(TIF_SINGLESTEP);

	if (PT_REGS_SYSCALL_NR(regs) != -1) {
		switch ((long)PT_REGS_AX(regs)) {
		case -ERESTART_RESTARTBLOCK:
		case -ERESTARTNOHAND:
			PT_REGS_AX(regs) = -EINTR;
			break;
		case -ERESTARTSYS:
			if (!(ksig->ka.sa.sa_flags & SA_RESTART)) {
				PT_REGS_AX(regs) = -EINTR;
				break;
			}
			fallthrough;
		case -ERESTARTNOINTR:
			restart(regs, PT_REGS_SYSCALL_NR(regs));
			break;
		}
	}
	signal_setup_done(setup_frame(ksig, regs, sigmask_to_save()), ksig, step);
}

void mk_do_signal(struct pt_regs *regs)
{
	struct ksignal ksig;

	if (get_signal(&ksig)) {
		handle_signal(&ksig, regs);
		/* The system call that it interrupted is dealt with. */
		PT_REGS_SYSCALL_NR(regs) = -1;
		return;
	}

	if (PT_REGS_SYSCALL_NR(regs) != -1) {
		switch ((long)PT_REGS_AX(regs)) {
		case -ERESTARTNOHAND:
		case -ERESTARTSYS:
		case -ERESTARTNOINTR:
			restart(regs, PT_REGS_SYSCALL_NR(regs));
			break;
		case -ERESTART_RESTARTBLOCK:
			restart(regs, __NR_restart_syscall);
			break;
		}
	}
	restore_saved_sigmask();
}

SYSCALL_DEFINE0(rt_sigreturn)
{
	struct pt_regs *regs = current_pt_regs();
	struct rt_sigframe __user *frame =
		(struct rt_sigframe __user *)(PT_REGS_SP(regs) - sizeof(long));
	unsigned long flags;
	sigset_t set;

	if (!access_ok(frame, sizeof(*frame)) ||
	    get_user(flags, &frame->uc.uc_flags) ||
	    copy_from_user(&set, &frame->uc.uc_sigmask, sizeof(set)))
		goto bad;
	set_current_blocked(&set);
	if (!get_sigcontext(&frame->uc.uc_mcontext, regs,
			    flags & UC_STRICT_RESTORE_SS) ||
	    restore_altstack(&frame->uc.uc_stack))
		goto bad;
	return PT_REGS_AX(regs);

bad:
	force_sig(SIGSEGV);
	return 0;
}
