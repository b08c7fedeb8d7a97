//! Tacet's microkernel.
//!
//! Principles:
//! 1. **Silence.** A core that runs one thread gets no interrupt that the thread did not ask for: no tick, and a
//!    shootdown only for a Task that is active there.
//! 2. **Capabilities decide.** A thread reaches an object only through a slot of its CSpace; which core runs what is
//!    decided by who holds that core's Cpu capability.
//! 3. **No hidden memory.** Objects and page tables are paid for by an Untyped that the requester names.
//! 4. **Home cores.** A thread is scheduled by its home core only; other cores enqueue and send an interrupt. The
//!    kernel is not preemptible and runs with interrupts off, on one stack a core.
//! 5. **Shared pages are never trusted.** What decides about privilege is checked in registers on every load.
//! 6. **Nor are boot loader and firmware.** What they hand over is read by pure code that checks every length; what cannot
//!    be used ends the boot with one line that says what.
//! 7. **Three borders.** `arch` knows x86-64 (beside it only the end of a run, in `panic.rs`); `kobj` is the object layer
//!    and `kcore` the logic that need no hardware, tested on the host.
//! 8. **Arrows point one way.** Entries need guests, those messages, those the scheduler, that objects, those `arch`; a test
//!    of `mk` finds circles of more than three files.
//!
//! `docs/architecture.md` follows one exception through these files, and the way from the loader to the first thread.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod arch;
#[cfg(all(target_os = "none", feature = "check"))]
mod attack;
#[cfg(target_os = "none")]
mod boot;
#[cfg(all(target_os = "none", feature = "check"))]
mod check;
#[cfg(target_os = "none")]
mod decoupled;
#[cfg(target_os = "none")]
mod destroy;
#[cfg(target_os = "none")]
mod dispatch;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod fastpath;
#[cfg(target_os = "none")]
mod fault;
#[cfg(target_os = "none")]
mod invoke;
#[cfg(target_os = "none")]
mod ipc;
#[cfg(target_os = "none")]
mod log;
#[cfg(target_os = "none")]
mod object;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod percore;
#[cfg(target_os = "none")]
mod run_queue;
#[cfg(target_os = "none")]
mod sched;
#[cfg(target_os = "none")]
mod shared;
#[cfg(target_os = "none")]
mod shootdown;
#[cfg(target_os = "none")]
mod signal;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod storm;
#[cfg(target_os = "none")]
mod syscall;
#[cfg(target_os = "none")]
mod trace;
#[cfg(target_os = "none")]
mod vcpu;

#[cfg(all(target_os = "none", feature = "check"))]
use kobj::holds;
#[cfg(target_os = "none")]
use kobj::sync;

/// What the object layer asks of this machine.
#[cfg(target_os = "none")]
struct Platform;

#[cfg(target_os = "none")]
impl kobj::platform::Platform for Platform {
    fn spin() {
        shootdown::serve(percore::core());
        core::hint::spin_loop();
    }

    fn begin(object: kobj::platform::EndOf) {
        percore::core().work.begin(object);
    }
}

#[cfg(target_os = "none")]
kobj::platform!(Platform);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("The microkernel runs on bare x86-64: build it with `mk build`, boot it with `mk boot`.");
    std::process::exit(2);
}
