//! Interrupt against resume: signals to a vCPU that is about to sleep, or to run its user context.

use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::handshake::{Signalled, State, StateWord};
use crate::{fails, until, with_few_preemptions};

struct Vcpu {
    state: StateWord,
    pending: AtomicU64,
    /// In the run queue of its home core.
    queued: AtomicBool,
    /// Interrupts sent to the home core.
    pokes: AtomicU64,
}

impl Vcpu {
    fn new() -> Arc<Self> {
        let state = StateWord::new(State::Running);
        Arc::new(Self { state, pending: AtomicU64::new(0), queued: AtomicBool::new(false), pokes: AtomicU64::new(0) })
    }

    /// `signal::vcpu` on another core.
    fn signal(&self, bits: u64) {
        match self.state.signal(&self.pending, bits) {
            Signalled::Woken => {
                assert!(!self.queued.swap(true, Ordering::SeqCst), "woken twice");
            }
            Signalled::New => {
                self.pokes.fetch_add(1, Ordering::SeqCst);
            }
            Signalled::Known => {}
        }
    }

    /// `vcpu::wait` and the scheduler on the home core, until Linux goes on. (loom finds the deadlock of a lost wake-up.)
    fn wait(&self, sleep: fn(&Self) -> bool) -> u64 {
        if sleep(self) {
            until(|| self.queued.swap(false, Ordering::SeqCst));
            self.state.set(State::Running);
        }
        // (It may be 0: a signal that was taken before a second sleep can end that one. Linux looks, and sleeps again.)
        self.pending.swap(0, Ordering::SeqCst)
    }

    fn sleep(&self) -> bool {
        self.state.sleep(&self.pending)
    }
}

/// Linux sleeps until it has had all signals, whoever sends them and in whatever order.
fn signals<const N: usize>(bits: [u64; N], sleep: fn(&Vcpu) -> bool) {
    let vcpu = Vcpu::new();
    let senders = bits.map(|bit| {
        let vcpu = vcpu.clone();
        thread::spawn(move || vcpu.signal(bit))
    });
    let mut seen = 0;
    while seen != bits.iter().sum() {
        seen |= vcpu.wait(sleep);
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn a_signal_to_a_vcpu_that_falls_asleep_is_never_lost() {
    loom::model(|| signals([1], Vcpu::sleep));
}

#[test]
fn two_signals_to_a_vcpu_that_falls_asleep_both_arrive() {
    with_few_preemptions(|| signals([1, 2], Vcpu::sleep));
}

/// As the kernel was: a plain store, which the load of `pending` may overtake.
#[test]
fn a_sleep_with_a_plain_store_is_found_to_lose_wake_ups() {
    assert!(fails(|| signals([1], |vcpu| {
        vcpu.state.set(State::WaitVcpu);
        vcpu.pending.load(Ordering::SeqCst) == 0 || !vcpu.state.change(State::WaitVcpu, State::Running)
    })));
}

/// `vcpu::run_user` looks at `pending` with interrupts off and enters user mode, where an interrupt is taken at once.
fn resume(look: bool) {
    let vcpu = Vcpu::new();
    let sender = {
        let vcpu = vcpu.clone();
        thread::spawn(move || vcpu.signal(1))
    };
    if !(look && vcpu.pending.load(Ordering::Acquire) != 0) {
        // In user mode until an interrupt, which leads to `vcpu::leave`.
        until(|| vcpu.pokes.load(Ordering::SeqCst) != 0);
        assert!(vcpu.pending.load(Ordering::Acquire) != 0, "an interrupt before its signal");
    }
    sender.join().unwrap();
}

#[test]
fn a_signal_before_or_after_the_resume_leaves_the_user_context() {
    loom::model(|| resume(true));
}

/// A second signal with the same bits sends no interrupt: the first one's suffices.
#[test]
fn a_signal_that_is_known_needs_no_interrupt() {
    loom::model(|| {
        let vcpu = Vcpu::new();
        let senders = [1, 1].map(|bit| {
            let vcpu = vcpu.clone();
            thread::spawn(move || vcpu.signal(bit))
        });
        if vcpu.pending.load(Ordering::Acquire) == 0 {
            until(|| vcpu.pokes.load(Ordering::SeqCst) != 0);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(vcpu.pending.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_signal_without_an_interrupt_is_found() {
    assert!(fails(|| {
        let vcpu = Vcpu::new();
        let sender = {
            let vcpu = vcpu.clone();
            thread::spawn(move || vcpu.pending.fetch_or(1, Ordering::SeqCst))
        };
        if vcpu.pending.load(Ordering::Acquire) == 0 {
            until(|| vcpu.pokes.load(Ordering::SeqCst) != 0);
        }
        sender.join().unwrap();
    }));
}
