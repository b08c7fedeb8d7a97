//! `kcore::handshake` and the waiting part of the crate `kobj`, run by loom in every interleaving of two or three cores.
//!
//! It is the kernel's own text: the files are included here with other atomics and locks. What is modelled by hand is the rest
//! of each core's path (the order in which `sched.rs`, `vcpu.rs`, `decoupled.rs` and `shootdown.rs` call it), the user level,
//! and interrupts: a poke is a counter that the other core looks at where its interrupts are open.
//!
//! The atomics are loom's, with the barriers of x86-64: a SeqCst exchange or store is a locked instruction, which is a full
//! fence; a load, and a store of another order, is a plain MOV (SDM vol. 3, 9.2.3; loom itself takes SeqCst for AcqRel).
#![cfg(test)]
#![allow(unexpected_cfgs, reason = "the included files have features that the models do without")]

mod atomic;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kcore/src/handshake.rs"]
mod handshake;

// The object layer.
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kobj/src/cspace.rs"]
mod cspace;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kobj/src/header.rs"]
mod header;
#[path = "../../kobj/src/ipc.rs"]
mod ipc;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kobj/src/meeting.rs"]
mod meeting;
mod platform;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kobj/src/queue.rs"]
mod queue;
mod sync;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kobj/src/untyped.rs"]
mod untyped;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kobj/src/waiting.rs"]
mod waiting;

use header::{Header, Kind, Object, Ref, Remains};
use untyped::{Pages, Untyped, create_with};

mod decoupled;
mod derivation;
mod locks;
mod revocation;
mod shootdown;
mod stop;
mod vcpu;
mod waits;

/// Wait until `condition`; loom lets the others go on meanwhile.
fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        loom::thread::yield_now();
    }
}

/// All interleavings with at most two preemptions, where all there are would take hours. (Threads that wait change places
/// as often as they like.)
fn with_few_preemptions(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// Whether a model finds the mistake that `broken` has: it must panic (a violated assertion, or a deadlock).
fn fails(broken: impl Fn() + Sync + Send + 'static) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || with_few_preemptions(broken))).is_err()
}
