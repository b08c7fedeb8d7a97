//! Revocation against use: one core takes something away while another is about to use it.

use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::handshake::{begin_era, current_era, enter_era, is_in_era, take_away};
use crate::{fails, until};

/// A page that a thread has, as its message page or because it runs with it.
struct Machine {
    /// The thread has it. (False: the pointer is null, or the thread is dead.)
    has: AtomicBool,
    last_era: AtomicU64,
    /// The other core's.
    era: AtomicU64,
    /// The page has gone back.
    free: AtomicBool,
}

/// What may be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// The era begins before the page is taken away.
    BeginsEarly,
    /// The core takes the era that it comes into after it has looked.
    LooksFirst,
    /// Nobody waits.
    WaitsForNobody,
}

/// Two looks of the core at what the thread has (`dispatch::leave`), and use of it until the next.
fn uses(machine: &Machine, wrong: Wrong) {
    for _ in 0..2 {
        let mut era = current_era(&machine.last_era);
        let has = machine.has.load(Ordering::Relaxed);
        if wrong == Wrong::LooksFirst {
            era = current_era(&machine.last_era);
        }
        enter_era(&machine.era, era);
        if has {
            assert!(!machine.free.load(Ordering::SeqCst), "used after it went back");
        }
    }
    // The core comes by again, with nothing to do.
    until(|| {
        enter_era(&machine.era, current_era(&machine.last_era));
        machine.free.load(Ordering::SeqCst)
    });
}

/// As `Thread::lease_ended` does, until it lets go.
fn takes_away(machine: &Machine, wrong: Wrong) {
    let awaited = AtomicU64::new(0);
    let early = (wrong == Wrong::BeginsEarly).then(|| begin_era(&machine.last_era));
    until(|| {
        take_away(
            &awaited,
            || machine.has.store(false, Ordering::SeqCst),
            || early.unwrap_or_else(|| begin_era(&machine.last_era)),
            |era| wrong == Wrong::WaitsForNobody || is_in_era(&machine.era, era),
        )
    });
    machine.free.store(true, Ordering::SeqCst);
}

fn run(wrong: Wrong) {
    let machine = Arc::new(Machine {
        has: AtomicBool::new(true),
        last_era: AtomicU64::new(0),
        era: AtomicU64::new(0),
        free: AtomicBool::new(false),
    });
    let other = {
        let machine = machine.clone();
        thread::spawn(move || uses(&machine, wrong))
    };
    takes_away(&machine, wrong);
    other.join().unwrap();
}

#[test]
fn what_was_taken_away_is_not_used_when_all_are_in_the_era() {
    crate::with_few_preemptions(|| run(Wrong::Nothing));
}

#[test]
fn an_era_that_begins_before_the_page_is_taken_away_is_found() {
    assert!(fails(|| run(Wrong::BeginsEarly)));
}

#[test]
fn a_core_that_looks_before_it_takes_the_era_is_found() {
    assert!(fails(|| run(Wrong::LooksFirst)));
}

#[test]
fn a_page_that_goes_back_at_once_is_found() {
    assert!(fails(|| run(Wrong::WaitsForNobody)));
}
