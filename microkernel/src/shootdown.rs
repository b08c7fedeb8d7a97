//! Taking translations back from exactly the cores that may hold them.

use kcore::handshake;

use crate::arch::{self, apic};
use crate::object::{Object, Ref, Task};
use crate::percore::{self, Core, core_at};

/// Mappings of `task` were taken away: when this returns, no core uses them.
///
/// Cores on which the Task is not active see the new generation before they use it again.
#[unsafe(no_mangle)]
fn flush_translations(task: &Task) {
    task.presence.withdraw();
    let own = percore::core();
    if core::ptr::eq(own.task(), task) {
        own.task_generation.set(task.presence.generation());
        arch::memory::flush_user();
    }
    let others = task.presence.active() & !own.bit;
    if others != 0 {
        interrupt(own, others);
    }
}

/// Have other cores flush, and wait until they have.
#[inline(never)]
fn interrupt(own: &Core, mut others: u64) {
    while others != 0 {
        let index = others.trailing_zeros() as usize;
        others &= others - 1;
        let target = core_at(index).expect("an active core exists");
        let ticket = handshake::ask(&target.shoot_requested);
        apic::send(target.apic_id(), apic::VECTOR_SHOOTDOWN);
        while !handshake::is_served(&target.shoot_done, ticket) {
            // The target may be waiting for this core in the same way.
            serve(own);
            core::hint::spin_loop();
        }
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

/// As `activate`, for another Task than the one that is the core's.
///
/// # Safety
/// The core has one.
#[inline(always)]
pub unsafe fn exchange(core: &Core, task: &Task) {
    let (old, bit) = (core.task(), core.bit);
    load(core, task);
    // SAFETY: by the caller's promise there is one, and `load` counted it.
    unsafe { release(old, bit) };
}

#[inline(always)]
fn load(core: &Core, task: &Task) {
    core.task_generation.set(task.presence.enter(core.bit));
    core.set_task(Ref::of(task).into_raw());
    arch::memory::load_root(task.root());
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
    if unsafe { core.task().as_ref() }.is_some_and(Object::is_orphaned) {
        deactivate(core);
    }
}

/// `task` was deleted: cores that rest in it leave it.
#[unsafe(no_mangle)]
fn leave_deleted_task(task: &Task) {
    for core in (0..percore::core_count()).filter_map(core_at).filter(|core| core::ptr::eq(core.task(), task)) {
        percore::poke(core);
    }
}

/// Leave the address space for the kernel's own.
pub fn deactivate(core: &Core) {
    let old = core.task();
    if !old.is_null() {
        core.set_task(core::ptr::null());
        arch::memory::load_root(arch::memory::kernel_root());
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
