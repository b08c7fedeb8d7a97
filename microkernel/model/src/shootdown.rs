//! Unmap against run: one core takes a mapping away while another enters, leaves and uses the address space.

use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::handshake::{self, Presence};
use crate::{fails, until, with_few_preemptions};

/// Bit of the core that runs in the address space.
const RUNNER: u64 = 2;

struct Machine {
    /// A page table entry: 1 while the page is mapped.
    entry: AtomicU64,
    presence: Presence,
    requested: AtomicU64,
    done: AtomicU64,
    /// The unmap has returned.
    unmapped: AtomicBool,
}

/// The runner's side; its translation is its own.
struct Runner<'a> {
    machine: &'a Machine,
    translation: Option<u64>,
    generation: u64,
}

impl Runner<'_> {
    /// `shootdown::load`: CR3 is loaded, which drops all translations.
    fn enter(&mut self) {
        self.generation = self.machine.presence.enter(RUNNER);
        self.translation = None;
    }

    /// `shootdown::activate` of the Task that CR3 still names.
    fn enter_again(&mut self) {
        if let Some(generation) = self.machine.presence.enter_again(RUNNER, self.generation) {
            self.generation = generation;
            self.translation = None;
        }
    }

    /// An instruction of user mode that uses the page. The interrupt of a shootdown may come before it.
    fn touch(&mut self) {
        let late = self.machine.unmapped.load(Ordering::SeqCst);
        let found = *self.translation.get_or_insert_with(|| self.machine.entry.load(Ordering::Relaxed));
        assert!(!(late && found == 1), "the page was used after its unmap returned");
        self.interrupts();
    }

    fn interrupts(&mut self) {
        let Self { machine, translation, .. } = self;
        handshake::serve(&machine.requested, &machine.done, || *translation = None);
    }
}

/// `Task::unmap` and `shootdown::flush`.
fn unmap(machine: &Machine, withdraw: bool, tell: bool) {
    machine.entry.store(0, Ordering::Relaxed);
    if withdraw {
        machine.presence.withdraw();
    }
    if tell && machine.presence.active() & RUNNER != 0 {
        let ticket = handshake::ask(&machine.requested);
        until(|| handshake::is_served(&machine.done, ticket));
    }
    machine.unmapped.store(true, Ordering::SeqCst);
}

fn run(withdraw: bool, tell: bool, body: fn(&mut Runner)) {
    let machine = Arc::new(Machine {
        entry: AtomicU64::new(1),
        presence: Presence::new(),
        requested: AtomicU64::new(0),
        done: AtomicU64::new(0),
        unmapped: AtomicBool::new(false),
    });
    let other = {
        let machine = machine.clone();
        thread::spawn(move || unmap(&machine, withdraw, tell))
    };
    let mut runner = Runner { machine: &machine, translation: None, generation: 0 };
    body(&mut runner);
    // Interrupts stay open until the other core has what it waits for.
    until(|| {
        runner.interrupts();
        machine.unmapped.load(Ordering::SeqCst)
    });
    other.join().unwrap();
}

fn enter_and_touch(runner: &mut Runner) {
    runner.enter();
    runner.touch();
    runner.touch();
}

/// A decoupled thread that traps, waits for its answer and runs on.
fn pause_between(runner: &mut Runner) {
    runner.enter();
    runner.touch();
    runner.machine.presence.leave(RUNNER);
    runner.enter_again();
    runner.touch();
}

#[test]
fn no_core_uses_a_page_after_its_unmap_has_returned() {
    loom::model(|| run(true, true, enter_and_touch));
}

#[test]
fn a_core_that_paused_drops_what_was_unmapped_meanwhile() {
    with_few_preemptions(|| run(true, true, pause_between));
}

#[test]
fn an_unmap_that_tells_nobody_is_found() {
    assert!(fails(|| run(true, false, enter_and_touch)));
}

#[test]
fn an_unmap_that_leaves_the_generation_is_found() {
    assert!(fails(|| run(false, true, pause_between)));
}

/// The generation is read before the core is known to be active: an unmap between the two is missed.
#[test]
fn entering_in_the_wrong_order_is_found() {
    assert!(fails(|| run(true, true, |runner| {
        runner.enter();
        runner.touch();
        runner.machine.presence.leave(RUNNER);
        let stale = runner.machine.presence.generation() != runner.generation;
        runner.machine.presence.enter(RUNNER);
        if stale {
            runner.translation = None;
        }
        runner.touch();
    })));
}
