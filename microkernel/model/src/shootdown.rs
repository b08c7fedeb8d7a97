//! Unmap against run: one or two cores take a mapping away while another enters, leaves and uses the address space.

use loom::sync::{Arc, Mutex};
use loom::thread;

use kcore::contexts::Contexts;

use crate::atomic::{AtomicU64, Ordering};
use crate::handshake::{self, Cores, Presence};
use crate::{fails, until, with_few_preemptions};

/// Number of the core that runs in the address space, and its bit.
const RUNS: usize = 1;
const RUNNER: u64 = 1 << RUNS;

struct Machine {
    /// The Task's lock.
    lock: Mutex<()>,
    /// A page table entry: 1 while the page is mapped.
    entry: AtomicU64,
    presence: Presence,
    requested: AtomicU64,
    done: AtomicU64,
    /// Unmaps that have returned. From the first on, the page may be something else.
    unmapped: AtomicU64,
}

/// How an unmap is done: as it is right, but for this.
#[derive(Clone, Copy)]
struct Wrong {
    tells_nobody: bool,
    keeps_generation: bool,
    /// As it once was: what was taken out is flushed when the lock is free already.
    flushes_late: bool,
}

/// The machine as the kernel's flush sees it.
struct Seen<'a>(&'a Machine, Wrong);

impl Cores for Seen<'_> {
    fn own(&self) -> u64 {
        if self.1.tells_nobody { u64::MAX } else { 1 }
    }
    fn drop_own(&self) {}
    fn counters(&self, core: usize) -> (&AtomicU64, &AtomicU64) {
        assert_eq!(core, RUNS);
        (&self.0.requested, &self.0.done)
    }
    fn interrupt(&self, _: usize) {}
    fn meanwhile(&self) {
        loom::thread::yield_now();
    }
}

/// The runner's side; its translation is its own.
struct Runner<'a> {
    machine: &'a Machine,
    translation: Option<u64>,
    generation: u64,
    /// With PCIDs: another address space is loaded, and the translation is kept.
    away: bool,
    contexts: Contexts<2>,
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

    /// `shootdown::load` on a processor with PCIDs. `forgets`: the identifier does not know the generation.
    fn come_back(&mut self, forgets: bool) {
        self.generation = self.machine.presence.enter(RUNNER);
        let (_, keep) = self.contexts.enter(1, if forgets { 0 } else { self.generation });
        if !keep {
            self.translation = None;
        }
        self.away = false;
    }

    /// The same, of another address space.
    fn go_away(&mut self) {
        self.contexts.enter(2, 0);
        self.away = true;
        self.machine.presence.leave(RUNNER);
    }

    /// An instruction of user mode that uses the page. The interrupt of a shootdown may come before it.
    fn touch(&mut self) {
        let late = self.machine.unmapped.load(Ordering::SeqCst) > 0;
        let found = *self.translation.get_or_insert_with(|| self.machine.entry.load(Ordering::Relaxed));
        assert!(!(late && found == 1), "the page was used after an unmap of it had returned");
        self.interrupts();
    }

    fn interrupts(&mut self) {
        let Self { machine, translation, away, .. } = self;
        handshake::serve(&machine.requested, &machine.done, || {
            if !*away {
                *translation = None;
            }
        });
    }
}

/// `Task::unmap`; `Sweep::step` does the same. When it returns, the memory may become something else.
fn unmap(machine: &Machine, wrong: Wrong) {
    let lock = machine.lock.lock().unwrap();
    let found = machine.entry.load(Ordering::Relaxed) == 1;
    machine.entry.store(0, Ordering::Relaxed);
    let flush = || {
        if wrong.keeps_generation {
            return; // (and nobody is active meanwhile)
        }
        machine.presence.settle(found, &Seen(machine, wrong));
    };
    if wrong.flushes_late {
        drop(lock);
        flush();
    } else {
        flush();
        drop(lock);
    }
    machine.unmapped.fetch_add(1, Ordering::SeqCst);
}

/// One core runs `body`, others unmap the same page.
fn run(unmappers: u64, wrong: Wrong, body: fn(&mut Runner)) {
    let machine = Arc::new(Machine {
        lock: Mutex::new(()),
        entry: AtomicU64::new(1),
        presence: Presence::new(),
        requested: AtomicU64::new(0),
        done: AtomicU64::new(0),
        unmapped: AtomicU64::new(0),
    });
    let others: Vec<_> = (0..unmappers)
        .map(|_| {
            let machine = machine.clone();
            thread::spawn(move || unmap(&machine, wrong))
        })
        .collect();
    let mut runner =
        Runner { machine: &machine, translation: None, generation: 0, away: false, contexts: Contexts::new() };
    body(&mut runner);
    // Interrupts stay open until the other cores have what they wait for.
    until(|| {
        runner.interrupts();
        machine.unmapped.load(Ordering::SeqCst) == unmappers
    });
    others.into_iter().for_each(|other| other.join().unwrap());
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

/// A core that runs something else in between.
fn away_between(runner: &mut Runner, forgets: bool) {
    runner.come_back(forgets);
    runner.touch();
    runner.go_away();
    runner.interrupts();
    runner.come_back(forgets);
    runner.touch();
}

const RIGHT: Wrong = Wrong { tells_nobody: false, keeps_generation: false, flushes_late: false };

#[test]
fn no_core_uses_a_page_after_its_unmap_has_returned() {
    loom::model(|| run(1, RIGHT, enter_and_touch));
}

#[test]
fn a_core_that_paused_drops_what_was_unmapped_meanwhile() {
    with_few_preemptions(|| run(1, RIGHT, pause_between));
}

#[test]
fn a_core_that_comes_back_drops_what_was_unmapped_meanwhile() {
    with_few_preemptions(|| run(1, RIGHT, |runner| away_between(runner, false)));
    with_few_preemptions(|| run(2, RIGHT, |runner| away_between(runner, false)));
}

#[test]
fn a_core_that_comes_back_without_a_look_at_the_generation_is_found() {
    assert!(fails(|| run(1, RIGHT, |runner| away_between(runner, true))));
}

/// Neither who took the page out nor who found nothing there returns before it is flushed: who comes second may be the end of
/// the memory, which then becomes something else.
#[test]
fn the_second_of_two_unmaps_waits_for_the_flush_of_the_first() {
    with_few_preemptions(|| run(2, RIGHT, enter_and_touch));
    with_few_preemptions(|| run(2, RIGHT, pause_between));
}

#[test]
fn a_flush_after_the_lock_is_free_is_found() {
    assert!(fails(|| run(2, Wrong { flushes_late: true, ..RIGHT }, enter_and_touch)));
}

#[test]
fn an_unmap_that_tells_nobody_is_found() {
    assert!(fails(|| run(1, Wrong { tells_nobody: true, ..RIGHT }, enter_and_touch)));
}

#[test]
fn an_unmap_that_leaves_the_generation_is_found() {
    assert!(fails(|| run(1, Wrong { keeps_generation: true, ..RIGHT }, pause_between)));
}

/// The generation is read before the core is known to be active: an unmap between the two is missed.
#[test]
fn entering_in_the_wrong_order_is_found() {
    assert!(fails(|| run(1, RIGHT, |runner| {
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
