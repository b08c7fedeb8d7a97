//! Taking translations back from exactly the cores that may hold them.

use core::sync::atomic::AtomicU64;

use kcore::handshake::{self, Cores, Flushed};

use crate::arch::{self, apic};
use crate::object::{Object, Ref, Task, Thread};
use crate::percore::{self, Core, core_at};

/// The end of a change of `task`'s tables, under their lock: see [`handshake::Presence::settle`].
#[unsafe(no_mangle)]
fn settle_translations(task: &Task, taken_out: bool) -> Flushed {
    task.presence.settle(taken_out, &Machine { own: percore::core(), task })
}

/// The cores, for one flush.
struct Machine<'a> {
    own: &'a Core,
    task: &'a Task,
}

impl Cores for Machine<'_> {
    #[inline]
    fn own(&self) -> u64 {
        self.own.bit
    }

    #[inline]
    fn drop_own(&self) {
        if core::ptr::eq(self.own.task(), self.task) {
            self.own.task_generation.set(self.task.presence.generation());
            arch::memory::flush_user();
        }
    }

    fn counters(&self, core: usize) -> (&AtomicU64, &AtomicU64) {
        let core = core_at(core).expect("an active core exists");
        (&core.shoot_requested, &core.shoot_done)
    }

    fn interrupt(&self, core: usize) {
        apic::send(core_at(core).expect("an active core exists").apic_id(), apic::VECTOR_SHOOTDOWN);
    }

    fn meanwhile(&self) {
        serve(self.own);
        core::hint::spin_loop();
    }
}

/// Do what other cores asked of this one.
#[inline]
pub fn serve(core: &Core) {
    handshake::serve(&core.shoot_requested, &core.shoot_done, arch::memory::flush_user);
}

/// Make `task` the address space of this core.
#[inline]
pub fn activate(core: &Core, task: &Task) {
    if core::ptr::eq(core.task(), task) {
        if let Some(generation) = task.presence.enter_again(core.bit, core.task_generation.get()) {
            core.task_generation.set(generation);
            arch::memory::flush_user();
        }
        return;
    }
    let old = core.task();
    load(core, task);
    if !old.is_null() {
        // SAFETY: `load` counted it when it became the core's.
        unsafe { release(old, core.bit) };
    }
}

/// As `activate`, of a thread's Task, where another or the same is active.
///
/// # Safety
/// One is, and the thread was started.
#[inline(always)]
pub unsafe fn exchange(core: &Core, thread: &Thread) {
    let (old, bit) = (core.task(), core.bit);
    // SAFETY: by the caller's promise.
    if let Some(task) = unsafe { thread.task_other_than(old) } {
        load(core, task);
        // SAFETY: by the caller's promise there is one, and `load` counted it.
        unsafe { release(old, bit) };
    }
}

#[inline(always)]
fn load(core: &Core, task: &Task) {
    core.task_generation.set(task.presence.enter(core.bit));
    core.set_task(Ref::of(task).into_raw());
    // SAFETY: the Task is the core's from here on, and has its tables until nobody has the Task.
    unsafe { arch::memory::load_root_of(task, task.root()) };
}

/// The end of `load` on a processor that keeps the translations of several address spaces.
#[unsafe(no_mangle)]
extern "C" fn load_in_context(task: &Task) {
    let core = percore::core();
    let (context, keep) = core.contexts.enter(task.number(), core.task_generation.get());
    // SAFETY: the Task is counted by the core from now on, and its root has the kernel's half.
    unsafe { arch::memory::load_root(task.root() | context | u64::from(keep) << 63) };
}

/// This core stops using its Task's translations until it activates the Task again; CR3 stays.
pub fn pause(core: &Core) {
    // SAFETY: core.task is counted by `activate`.
    if let Some(task) = unsafe { core.task().as_ref() } {
        task.presence.leave(core.bit);
    }
}

/// The core has nothing to do: who unmaps something need not wake it, and a deleted Task need not wait for it.
pub fn rest(core: &Core) {
    pause(core);
    // SAFETY: core.task is counted by `activate`.
    if unsafe { core.task().as_ref() }.is_some_and(|task| task.header().is_orphaned()) {
        deactivate(core);
    }
}

/// `task` was deleted: cores that rest in it leave it.
#[unsafe(no_mangle)]
fn leave_deleted_task(task: &Task) {
    for core in percore::cores().filter(|core| core::ptr::eq(core.task(), task)) {
        percore::poke(core);
    }
}

/// Leave the address space for the kernel's own.
pub fn deactivate(core: &Core) {
    let old = core.task();
    if !old.is_null() {
        core.set_task(core::ptr::null());
        // SAFETY: the kernel's own tables live for ever.
        unsafe { arch::memory::load_root(arch::memory::kernel_root()) };
        // SAFETY: `load` counted it.
        unsafe { release(old, core.bit) };
    }
}

/// # Safety
/// `old` is counted for this core, which takes that back.
#[inline(always)]
unsafe fn release(old: *const Task, bit: u64) {
    // SAFETY: by the caller's promise.
    let old = unsafe { Ref::from_raw(old) };
    old.presence.leave(bit);
}
