//! vCPUs: a thread that is now Linux's own code (*kernel mode*) and now a user context of Linux (*in user*).
//!
//! The protocol is in `abi::VcpuState`; docs/architecture.md has the state diagram.

use core::sync::atomic::Ordering;

use abi::{Error, MAP_ITEMS, MAP_UNMAP, MapItem, Regs, TrapFrame, VCPU_EXC, VCPU_IRQ, VCPU_USER, VcpuState};

use crate::arch;
use crate::dispatch;
use crate::object::{Range, Task, Thread};
use crate::percore::Core;
use crate::shared::Shared;
use crate::{destroy, get, part, set, shootdown, word};

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

    /// Say it in the frame of a user context, whose general registers are there already.
    #[inline(always)]
    pub fn tell(self, frame: Shared<TrapFrame>) {
        set!(frame.trapno = self.number);
        set!(frame.error = self.error);
        set!(frame.address = self.address);
    }
}

fn page(thread: &Thread) -> Shared<'_, VcpuState> {
    // SAFETY: only vCPUs that run come here, and they keep their page until they have left the core (see `lease_ended`).
    unsafe { Shared::new(thread.shared_page().cast()) }
}

/// Whether an exception of Linux's own code is delivered to Linux.
pub fn takes_exceptions(thread: &Thread) -> bool {
    let page = page(thread);
    word!(page.flags).load(Ordering::Relaxed) & VCPU_EXC != 0
}

/// Keep this core's FS and GS base of user mode in the registers of the user context that runs.
pub fn save_bases(regs: Shared<Regs>) {
    let (fs, gs) = arch::user_bases();
    set!(regs.fs_base = fs);
    set!(regs.gs_base = gs);
}

/// The opposite of `save_bases`, and the next entry saves into `regs`.
pub fn load_regs(core: &Core, regs: Shared<Regs>) {
    core.set_shared_frame(regs);
    arch::set_user_bases(get!(regs.fs_base), get!(regs.gs_base));
}

/// The user context leaves the core.
pub fn unload_user(thread: &Thread) {
    let page = page(thread);
    save_bases(part!(page.frame.regs));
}

/// Before a vCPU runs on: deliver what is pending, then return to user mode.
pub fn leave(core: &Core, thread: &Thread) -> ! {
    let page = page(thread);
    if word!(page.pending).load(Ordering::Acquire) != 0 {
        if thread.in_user.get() {
            upcall_from_user(core, thread, Trap::plain(abi::TRAP_IRQ));
        }
        if word!(page.flags).load(Ordering::Relaxed) & VCPU_IRQ != 0 {
            upcall_from_kernel(thread, Trap::plain(abi::TRAP_IRQ));
        }
    }
    arch::return_to_current()
}

/// The user context stopped; its registers are in the page already.
pub fn upcall_from_user(core: &Core, thread: &Thread, trap: Trap) -> ! {
    let page = page(thread);
    save_bases(part!(page.frame.regs));
    thread.in_user.set(false);
    core.set_frame(thread.regs());
    // SAFETY: the user context ran here, and the thread, which made it run.
    unsafe { shootdown::exchange(core, thread) };
    enter_linux(page, trap)
}

/// Linux's own code was interrupted or faulted.
pub fn upcall_from_kernel(thread: &Thread, trap: Trap) -> ! {
    let page = page(thread);
    let regs = thread.regs().copy();
    set!(page.frame = TrapFrame { trapno: trap.number, regs, error: trap.error, address: trap.address });
    let flags = word!(page.flags);
    let old = flags.load(Ordering::Relaxed);
    set!(page.saved_flags = old);
    flags.store(old & !(VCPU_IRQ | VCPU_EXC), Ordering::Relaxed);
    arch::set_user_bases(0, get!(page.entry_gs));
    arch::return_to_upcall(get!(page.entry_ip), regs.rsp)
}

fn enter_linux(page: Shared<VcpuState>, trap: Trap) -> ! {
    trap.tell(part!(page.frame));
    let flags = word!(page.flags);
    let old = flags.load(Ordering::Relaxed);
    set!(page.saved_flags = old | VCPU_USER);
    flags.store(old & !VCPU_IRQ, Ordering::Relaxed);
    arch::set_user_bases(0, get!(page.entry_gs));
    arch::return_to_upcall(get!(page.entry_ip), get!(page.entry_sp))
}

/// SYS_VCPU_RESUME. Returns only with an error.
pub fn resume(core: &Core, thread: &Thread, operation: u64) -> Error {
    if thread.vcpu_page().is_none() {
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
    thread.regs().set_result(0, 0, 0);
    let page = page(thread);
    thread.rest.state.sleep(word!(page.pending));
    dispatch::leave()
}

/// Find the user Task and apply the map items.
fn prepare_user(thread: &Thread) -> Result<(), Error> {
    let page = page(thread);
    let task = thread.cspace()?.hold().take(get!(page.user_task), abi::RIGHT_WRITE)?.object;
    let count = get!(page.item_count);
    if count != 0 {
        // SAFETY: it runs here.
        let range = unsafe { thread.shared_range() }.ok_or(Error::BadState)?;
        let applied = apply(&task, range, count, |i| get!(page.items[i]));
        // Only now: who takes mappings away on another core waits for this.
        set!(page.item_count = 0);
        applied?;
    }
    thread.user_task.set(Some(task));
    Ok(())
}

/// Make or take away the first `count` mappings that `item` gives.
pub fn apply(
    task: &Task,
    (range, depth): (&Range, u32),
    count: u64,
    item: impl Fn(usize) -> MapItem,
) -> Result<(), Error> {
    for item in (0..MAP_ITEMS.min(count as usize)).map(item) {
        if item.flags & MAP_UNMAP != 0 {
            task.unmap(item.address, item.size)?;
        } else {
            task.map(item.address, item.size, || range.source(depth, item.offset, item.size, item.flags))?;
        }
    }
    Ok(())
}

fn run_user(core: &Core, thread: &Thread) -> ! {
    let page = page(thread);
    if word!(page.pending).load(Ordering::Acquire) != 0 {
        // Without a look at the registers: the user context has not run.
        enter_linux(page, Trap::plain(abi::TRAP_IRQ));
    }
    thread.in_user.set(true);
    load_user(core, thread);
    destroy::finish(core); // of the user Task before this one, it may have been the last reference
    if core.reschedule.load(Ordering::Relaxed) {
        dispatch::leave();
    }
    arch::return_to_current()
}

/// Bring the user context onto the core.
pub fn load_user(core: &Core, thread: &Thread) {
    // SAFETY: on the home core, and nothing here sets another.
    if let Some(task) = unsafe { thread.user_task() } {
        shootdown::activate(core, task);
    }
    let page = page(thread);
    load_regs(core, part!(page.frame.regs));
}
