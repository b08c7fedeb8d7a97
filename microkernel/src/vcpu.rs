//! vCPUs: a thread that is now Linux's own code (*kernel mode*) and now a user context of Linux (*in user*).
//!
//! The protocol is in `abi::VcpuState`; docs/architecture.md has the state diagram.

use core::sync::atomic::Ordering;

use abi::{Error, MAP_ITEMS, MAP_UNMAP, MapItem, Regs, TrapFrame, VCPU_EXC, VCPU_IRQ, VCPU_USER, VcpuState};

use crate::arch::{self, Core};
use crate::object::{Range, Ref, Task, Thread, destroy};
use crate::shootdown;

/// Why a context stopped.
#[derive(Clone, Copy)]
pub struct Trap {
    pub number: u64,
    pub error: u64,
    pub address: u64,
}

impl Trap {
    pub const fn plain(number: u64) -> Self {
        Self { number, error: 0, address: 0 }
    }
}

fn page(thread: &Thread) -> &'static mut VcpuState {
    // SAFETY: the page lives as long as the vCPU, which is current on this core; the kernel holds one such reference at
    // a time. Linux runs on this core only while the kernel does not.
    unsafe { &mut *thread.vcpu_page() }
}

/// Registers of the user context.
pub fn user_regs(thread: &Thread) -> *mut Regs {
    // SAFETY: only computes an address inside the page.
    unsafe { &raw mut (*thread.vcpu_page()).frame.regs }
}

/// Before a vCPU runs on: deliver what is pending, then return to user mode.
pub fn leave(core: &Core, thread: &Thread) -> ! {
    let state = page(thread);
    if state.pending.load(Ordering::Acquire) != 0 {
        if thread.in_user.get() {
            upcall_from_user(core, thread, Trap::plain(abi::TRAP_IRQ));
        }
        if state.flags.load(Ordering::Relaxed) & VCPU_IRQ != 0 {
            upcall_from_kernel(thread, Trap::plain(abi::TRAP_IRQ));
        }
    }
    arch::return_to_current()
}

/// The user context stopped; its registers are in the page already.
pub fn upcall_from_user(core: &Core, thread: &Thread, trap: Trap) -> ! {
    let state = page(thread);
    let (fs, gs) = arch::user_bases();
    state.frame.regs.fs_base = fs;
    state.frame.regs.gs_base = gs;
    thread.in_user.set(false);
    core.set_frame(thread.regs());
    shootdown::activate(core, thread.task().expect("a vCPU has a Task"));
    enter_linux(state, trap)
}

/// Linux's own code was interrupted or faulted.
pub fn upcall_from_kernel(thread: &Thread, trap: Trap) -> ! {
    let state = page(thread);
    let regs = thread.regs_mut();
    state.frame = TrapFrame { trapno: trap.number, regs: *regs, error: trap.error, address: trap.address };
    let flags = state.flags.load(Ordering::Relaxed);
    state.saved_flags = flags;
    state.flags.store(flags & !(VCPU_IRQ | VCPU_EXC), Ordering::Relaxed);
    arch::set_user_bases(0, state.entry_gs);
    arch::return_to_upcall(state.entry_ip, regs.rsp)
}

fn enter_linux(state: &mut VcpuState, trap: Trap) -> ! {
    state.frame.trapno = trap.number;
    state.frame.error = trap.error;
    state.frame.address = trap.address;
    let flags = state.flags.load(Ordering::Relaxed);
    state.saved_flags = flags | VCPU_USER;
    state.flags.store(flags & !VCPU_IRQ, Ordering::Relaxed);
    arch::set_user_bases(0, state.entry_gs);
    arch::return_to_upcall(state.entry_ip, state.entry_sp)
}

/// SYS_VCPU_RESUME. Returns only with an error.
pub fn resume(core: &Core, thread: &Thread, operation: u64) -> Error {
    if thread.vcpu_page().is_null() {
        return Error::BadMethod;
    }
    match operation {
        abi::RESUME_USER => match prepare_user(thread) {
            Ok(()) => run_user(core, thread),
            Err(error) => error,
        },
        abi::RESUME_WAIT => wait(thread),
        _ => Error::BadArgument,
    }
}

fn wait(thread: &Thread) -> ! {
    thread.set_result(0, 0, 0);
    thread.sleep(&page(thread).pending);
    crate::sched::leave()
}

/// Find the user Task and apply the map items.
fn prepare_user(thread: &Thread) -> Result<(), Error> {
    let state = page(thread);
    let task = thread.cspace()?.get::<Task>(state.user_task, abi::RIGHT_WRITE)?;
    if state.item_count != 0 {
        let range = thread.shared_range().ok_or(Error::BadState)?;
        let applied = apply(&task, range, &state.items, state.item_count);
        // Only now: who takes mappings away on another core waits for this.
        // SAFETY: a field of the live page.
        unsafe { (&raw mut state.item_count).write_volatile(0) };
        applied?;
    }
    thread.user_task.set(Some(task));
    Ok(())
}

/// Make or take away the first `count` mappings of `items`.
pub fn apply(task: &Task, range: &Range, items: &[MapItem; MAP_ITEMS], count: u64) -> Result<(), Error> {
    for item in items.iter().take(count as usize) {
        let item = *item;
        if item.flags & MAP_UNMAP != 0 {
            task.unmap(item.address, item.size)?;
        } else {
            task.map(range, item.offset, item.address, item.size, item.flags)?;
        }
    }
    Ok(())
}

fn run_user(core: &Core, thread: &Thread) -> ! {
    let state = page(thread);
    if state.pending.load(Ordering::Acquire) != 0 {
        // Without a look at the registers: the user context has not run.
        enter_linux(state, Trap::plain(abi::TRAP_IRQ));
    }
    thread.in_user.set(true);
    load_user(core, thread);
    destroy::finish(core); // of the user Task before this one, it may have been the last reference
    if core.reschedule.load(Ordering::Relaxed) {
        crate::sched::leave();
    }
    arch::return_to_current()
}

/// Bring the user context onto the core.
pub fn load_user(core: &Core, thread: &Thread) {
    let regs = user_regs(thread);
    core.set_frame(regs);
    let task: Option<Ref<Task>> = thread.user_task.take();
    if let Some(task) = &task {
        shootdown::activate(core, task);
    }
    thread.user_task.set(task);
    // SAFETY: the page belongs to this core while the vCPU is current.
    let (fs, gs) = unsafe { ((*regs).fs_base, (*regs).gs_base) };
    arch::set_user_bases(fs, gs);
}
