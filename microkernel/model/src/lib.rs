//! `kcore::handshake`, run by loom in every interleaving of two or three cores.
//!
//! It is the kernel's own text: the file is included here with other atomics. What is modelled by hand is the rest of each
//! core's path (the order in which `sched.rs`, `vcpu.rs`, `decoupled.rs` and `shootdown.rs` call it), the user level, and
//! interrupts: a poke is a counter that the other core looks at where its interrupts are open.
//!
//! The atomics are loom's, with the barriers of x86-64: a SeqCst exchange or store is a locked instruction, which is a full
//! fence; a load, and a store of another order, is a plain MOV (SDM vol. 3, 9.2.3; loom itself takes SeqCst for AcqRel).
#![cfg(test)]

mod atomic;
#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../kcore/src/handshake.rs"]
mod handshake;

mod decoupled;
mod shootdown;
mod stop;
mod vcpu;
mod waiting;

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
