//! Entries from user mode other than system calls: exceptions and interrupts.

use core::sync::atomic::Ordering;

use abi::Regs;

use crate::arch::{self, apic};
use crate::dispatch;
use crate::ipc::Manner;
use crate::object::{Ref, Thread, ThreadKind};
use crate::percore::{self, Core, FIRST_DEVICE_VECTOR};
use crate::shared::Shared;
use crate::vcpu::{self, Trap};
use crate::{decoupled, fastpath, get, ipc, klog, sched, set, shootdown, storm};

const PAGE_FAULT: u64 = 14;
const GENERAL_PROTECTION: u64 = 13;

/// An exception or interrupt in user mode. The registers are in `frame`, the error code in its `orig_rax`.
#[unsafe(no_mangle)]
extern "C" fn handle_trap(vector: u64, frame: *mut Regs) -> ! {
    let core = percore::core();
    if vector >= 32 {
        interrupt(core, vector as u8);
        dispatch::leave();
    }
    // SAFETY: the frame of the thread that was interrupted on this core; it may lie in a page shared with Linux.
    let regs = unsafe { Shared::new(frame) };
    let error = get!(regs.orig_rax);
    set!(regs.orig_rax = u64::MAX);
    let trap = Trap {
        number: vector,
        error: if matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30) { error } else { 0 },
        address: if vector == PAGE_FAULT { arch::fault_address() } else { 0 },
    };
    // SAFETY: user mode was entered with a current thread, which is counted.
    let thread = unsafe { &*core.current.get() };
    match thread.kind() {
        ThreadKind::Ordinary => report(thread, trap),
        ThreadKind::Vcpu if thread.in_user.get() => vcpu::upcall_from_user(core, thread, trap),
        ThreadKind::Vcpu if vcpu::takes_exceptions(thread) => vcpu::upcall_from_kernel(thread, trap),
        ThreadKind::Vcpu => report(thread, trap),
        ThreadKind::Decoupled => {
            decoupled::trap(core, thread, trap);
            dispatch::leave()
        }
    }
}

/// Make a call to the thread's fault endpoint; without one, the thread ends.
fn report(thread: &Thread, trap: Trap) -> ! {
    let regs = thread.regs();
    match thread.fault_endpoint() {
        Some((endpoint, badge)) => {
            thread.fault.set([trap.number, trap.error, trap.address, regs.rip.get(), regs.rsp.get()]);
            thread.fault_pending.set(true);
            fastpath::report_fault(percore::core(), thread, endpoint, badge);
            ipc::send(&Ref::of(thread), Ref::of(endpoint), badge, 0, Manner::Call);
        }
        None => {
            let Trap { number, error, address } = trap;
            let (name, rip, rsp) = (thread.name(), regs.rip.get(), regs.rsp.get());
            klog!(
                "thread {name}: exception {number} error {error:#x} address {address:#x} at rip {rip:#x} rsp {rsp:#x}"
            );
            sched::kill(thread, "nobody handles its fault");
        }
    }
    dispatch::leave()
}

/// An interrupt, from whatever mode.
fn interrupt(core: &Core, vector: u8) {
    match vector {
        apic::VECTOR_SPURIOUS => return,
        apic::VECTOR_TIMER => {
            core.armed.set(None);
            sched::timer_expired(core);
        }
        apic::VECTOR_SHOOTDOWN => shootdown::serve(core),
        apic::VECTOR_POKE => {} // the sender has set what the scheduler looks at
        apic::VECTOR_HALT => crate::panic::halt(),
        _ => {
            let start = arch::time::tsc();
            let index = usize::from(vector).wrapping_sub(usize::from(FIRST_DEVICE_VECTOR));
            let handler = core.irqs.get(index).and_then(|slot| slot.lock().clone());
            if let Some(handler) = handler {
                handler.deliver();
            }
            if storm::served(&core.storm, core.index, vector, start) {
                core.reschedule.store(true, Ordering::Relaxed); // which arms the timer
            }
        }
    }
    apic::end_of_interrupt();
}

/// An exception or interrupt in the kernel itself. Interrupts come only where the kernel halts.
#[unsafe(no_mangle)]
extern "C" fn handle_kernel_trap(vector: u64, frame: *mut Regs) {
    unsafe extern "C" {
        static xrstor_instruction: u8;
        static xrstor_fixup: u8;
    }
    // SAFETY: the frame that the entry code just built on this stack (up to and with `ss`).
    let rip = unsafe { &mut *(&raw mut (*frame).rip) };
    if vector >= 32 {
        interrupt(percore::core(), vector as u8);
    } else if vector == GENERAL_PROTECTION && *rip == &raw const xrstor_instruction as u64 {
        *rip = &raw const xrstor_fixup as u64;
    } else {
        crate::panic::exception(vector, frame);
    }
}

/// NMI, double fault, machine check.
#[unsafe(no_mangle)]
extern "C" fn handle_paranoid_trap(vector: u64, frame: *mut Regs) {
    if vector == 2 {
        return; // an NMI that nobody asked for
    }
    crate::panic::exception(vector, frame);
}
