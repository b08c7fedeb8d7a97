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

cfg_if::cfg_if! {
    if #[cfg(target_os = "none")] {
        mod arch;
        #[cfg(feature = "check")]
        mod attack;
        mod boot;
        #[cfg(feature = "check")]
        mod check;
        mod decoupled;
        mod destroy;
        mod dispatch;
        mod entry;
        mod fastpath;
        mod fault;
        mod invoke;
        mod ipc;
        mod log;
        mod object;
        mod panic;
        mod percore;
        mod run_queue;
        mod sched;
        mod shared;
        mod shootdown;
        mod signal;
        mod smp;
        mod storm;
        mod syscall;
        mod trace;
        mod vcpu;

        #[cfg(feature = "check")]
        use kobj::holds;
        use kobj::sync;
        use log::klog;
        use shared::{get, part, set, word};

        /// What the object layer asks of this machine.
        struct Platform;

        impl kobj::platform::Platform for Platform {
            fn spin() {
                shootdown::serve(percore::core());
                core::hint::spin_loop();
            }

            fn begin(object: kobj::platform::EndOf) {
                percore::core().work.begin(object);
            }
        }

        kobj::platform!(Platform);
    } else {
        fn main() {
            eprintln!("The microkernel runs on bare x86-64: build it with `mk build`, boot it with `mk boot`.");
            std::process::exit(2);
        }
    }
}
