//! The five system calls.

use core::sync::atomic::Ordering;

use abi::{Error, Regs, TAG_POLL};

use crate::arch::{self, Registers};
use crate::dispatch;
use crate::ipc::Manner;
use crate::object::{Capability, Endpoint, Kind, Notification, Ref, Reply, Target, Thread, ThreadKind};
use crate::percore::{self, Core};
use crate::shared::Shared;
use crate::vcpu::{self, Trap};
use crate::{decoupled, destroy, get, invoke, ipc, set, trace};

/// SYSCALL in user mode that the fast path did not do. The registers that a system call preserves are in `frame`, and rip, rflags and rsp.
#[unsafe(no_mangle)]
extern "C" fn handle_syscall(frame: *mut Regs) -> ! {
    let core = percore::core();
    // SAFETY: user mode was entered with a current thread, which is counted.
    let thread = unsafe { &*core.current.get() };
    match thread.kind() {
        ThreadKind::Vcpu if thread.in_user.get() => {
            complete(frame);
            vcpu::upcall_from_user(core, thread, Trap::plain(abi::TRAP_SYSCALL))
        }
        ThreadKind::Decoupled => {
            complete(frame);
            decoupled::trap(core, thread, Trap::plain(abi::TRAP_SYSCALL));
            dispatch::leave()
        }
        _ => {
            let regs = thread.regs();
            dispatch(core, thread, regs);
            leave(core, thread, regs)
        }
    }
}

/// The end of a system call: nothing but the thread's registers may have changed, which is the commonest case.
#[inline(always)]
fn leave(core: &Core, thread: &Thread, regs: &Registers) -> ! {
    destroy::finish(core);
    if thread.kind() == ThreadKind::Ordinary && !core.reschedule.load(Ordering::Relaxed) && thread.is_running() {
        arch::return_from_current_syscall(regs);
    }
    dispatch::leave()
}

/// Invoke a method of a kernel object, and leave the kernel.
pub fn invoke(core: &Core, thread: &Thread, capability: Capability, regs: &Registers) -> ! {
    let answer = invoke::invoke(thread, &capability, regs);
    drop(capability); // since `leave` does not come back
    if let Err(refusal) = answer {
        if trace::enabled() {
            trace::refused(thread, regs, refusal.error, refusal.argument);
        }
        regs.rax.set(refusal.error.status() as u64);
        regs.rdx.set(refusal.argument);
    }
    leave(core, thread, regs)
}

/// Write what the entry code leaves out into a frame that Linux sees.
fn complete(frame: *mut Regs) {
    // SAFETY: the current frame, whose page the current thread keeps.
    let regs = unsafe { Shared::new(frame) };
    set!(regs.orig_rax = get!(regs.rax));
    set!(regs.rcx = get!(regs.rip));
    set!(regs.r11 = get!(regs.rflags));
    set!(regs.cs = arch::USER_CODE);
    set!(regs.ss = arch::USER_DATA);
}

fn dispatch(core: &Core, thread: &Thread, regs: &Registers) {
    let status = match regs.rax.get() {
        abi::SYS_CALL => call(core, thread, regs),
        abi::SYS_REPLY_RECV => answer_and_receive(thread, regs),
        abi::SYS_SEND => send(thread, regs),
        abi::SYS_RECV => receive(thread, regs),
        abi::SYS_VCPU_RESUME => Err(vcpu::resume(core, thread, regs.rdi.get())),
        _ => Err(Error::BadMethod),
    };
    if let Err(error) = status {
        if trace::enabled() {
            trace::refused(thread, regs, error, abi::NO_ARGUMENT);
        }
        regs.rax.set(error.status() as u64);
    }
}

fn call(core: &Core, thread: &Thread, regs: &Registers) -> Result<(), Error> {
    ipc::check_tag(regs.rsi.get())?;
    let capability = thread.cspace()?.hold().take_any(regs.rdi.get(), abi::RIGHT_WRITE)?;
    if capability.object.kind() == Kind::Endpoint {
        let endpoint = capability.object.downcast::<Endpoint>()?;
        ipc::send(&Ref::of(thread), endpoint, capability.badge, capability.rights, Manner::Call);
        return Ok(());
    }
    invoke(core, thread, capability, regs)
}

fn send(thread: &Thread, regs: &Registers) -> Result<(), Error> {
    ipc::check_tag(regs.rsi.get())?;
    let capability = thread.cspace()?.hold().take_any(regs.rdi.get(), abi::RIGHT_WRITE)?;
    if capability.object.kind() != Kind::Endpoint {
        Target::new(capability)?.signal();
        regs.rax.set(0);
        return Ok(());
    }
    let (badge, rights) = (capability.badge, capability.rights);
    let endpoint = capability.object.downcast::<Endpoint>()?;
    let manner = if regs.rsi.get() & TAG_POLL != 0 { Manner::Poll } else { Manner::Send };
    if ipc::send(&Ref::of(thread), endpoint, badge, rights, manner) {
        regs.rax.set(0);
    }
    Ok(())
}

fn answer_and_receive(thread: &Thread, regs: &Registers) -> Result<(), Error> {
    ipc::check_tag(regs.rsi.get())?;
    let operands = thread.cspace()?.hold();
    let reply = operands.take::<Reply>(regs.rbx.get(), abi::RIGHT_WRITE)?.object;
    let endpoint = operands.take::<Endpoint>(regs.rdi.get(), abi::RIGHT_READ)?.object;
    drop(operands);
    ipc::reply(thread, &reply);
    ipc::receive(&Ref::of(thread), endpoint, Some(reply), false)
}

fn receive(thread: &Thread, regs: &Registers) -> Result<(), Error> {
    let poll = regs.rsi.get() & TAG_POLL != 0;
    let operands = thread.cspace()?.hold();
    let capability = operands.take_any(regs.rdi.get(), abi::RIGHT_READ)?;
    if capability.object.kind() == Kind::Notification {
        drop(operands);
        let notification = capability.object.downcast::<Notification>()?;
        if let Some(word) = notification.wait(&Ref::of(thread), poll)? {
            regs.set_result(0, word, 0);
        }
        return Ok(());
    }
    let endpoint = capability.object.downcast::<Endpoint>()?;
    let reply = match regs.rbx.get() {
        0 => None,
        handle => Some(operands.take(handle, abi::RIGHT_WRITE)?.object),
    };
    drop(operands);
    debug_assert!(thread.is_running());
    ipc::receive(&Ref::of(thread), endpoint, reply, poll)
}
