//! A decoupled thread on its core against Linux, which answers, stops and deletes it. (Linux's side is C; here it is what
//! abi's `DecoupledFrame` asks of it.)

use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use abi::{FRAME_ANSWERED, FRAME_IDLE, FRAME_RUNNING, FRAME_TRAPPED};

use crate::handshake::{self, Frame, Next};
use crate::{fails, until, with_few_preemptions};

struct Machine {
    state: AtomicU32,
    sleeping: AtomicU32,
    requests: AtomicU64,
    reschedule: AtomicBool,
    interrupts: AtomicU64,
    answers_taken: AtomicU64,
    /// The answer asks for the extended state only.
    asks: AtomicBool,
    /// The extended state in the frame: the number of the trap since which it is there.
    saved: AtomicU64,
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU32::new(FRAME_RUNNING),
            sleeping: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            reschedule: AtomicBool::new(false),
            interrupts: AtomicU64::new(0),
            answers_taken: AtomicU64::new(0),
            asks: AtomicBool::new(false),
            saved: AtomicU64::new(0),
        })
    }

    fn frame(&self) -> Frame<'_> {
        Frame { state: &self.state, sleeping: &self.sleeping }
    }

    /// `sched::poke`.
    fn poke(&self) {
        self.reschedule.store(true, Ordering::SeqCst);
        self.interrupts.fetch_add(1, Ordering::SeqCst);
    }

    /// Linux answers a trap.
    fn answer(&self) {
        self.state.swap(FRAME_ANSWERED, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) != 0 {
            self.poke();
        }
    }

    /// Linux asks for the extended state of a trap, and gets it: an answer like others, but the trap stays.
    fn fetch(&self) -> u64 {
        self.asks.store(true, Ordering::Relaxed);
        self.answer();
        self.linux_waits_for(FRAME_TRAPPED);
        self.asks.store(false, Ordering::Relaxed);
        self.saved.load(Ordering::Relaxed)
    }

    /// THREAD_STOP.
    fn stop(&self) {
        handshake::request_stop(&self.requests);
        self.poke();
    }

    /// The last capability goes.
    fn delete(&self) {
        handshake::mark_dead(&self.requests);
        self.poke();
    }

    fn linux_waits_for(&self, state: u32) {
        until(|| self.state.load(Ordering::Acquire) == state);
    }
}

/// The compute core: `decoupled::leave` and what it calls, in `sched::leave`'s loop.
struct Core<'a> {
    machine: &'a Machine,
    in_user: bool,
    interrupts_seen: u64,
    may_halt: fn(&Machine) -> bool,
}

enum Event {
    /// The user context runs; the caller decides what it does.
    User,
    /// It was stopped, and the trap for that published.
    Stopped,
    Ended,
}

impl Core<'_> {
    fn trap(&mut self) {
        self.in_user = false;
        self.machine.frame().publish(&self.machine.requests);
    }

    fn take_interrupts(&mut self) -> bool {
        let now = self.machine.interrupts.load(Ordering::SeqCst);
        core::mem::replace(&mut self.interrupts_seen, now) != now
    }

    fn leave(&mut self) -> Event {
        loop {
            self.machine.reschedule.swap(false, Ordering::SeqCst);
            match handshake::next(&self.machine.requests, self.in_user) {
                Next::End => {
                    self.machine.state.store(FRAME_IDLE, Ordering::SeqCst);
                    return Event::Ended;
                }
                Next::Stop => {
                    self.trap();
                    return Event::Stopped;
                }
                Next::Run => return Event::User,
                Next::Wait if self.machine.frame().is_answered() && self.machine.asks.load(Ordering::Relaxed) => {
                    self.machine.saved.store(1, Ordering::Relaxed);
                    self.machine.frame().give_again();
                }
                Next::Wait if self.machine.frame().is_answered() => {
                    self.machine.answers_taken.fetch_add(1, Ordering::SeqCst);
                    self.machine.state.store(FRAME_RUNNING, Ordering::SeqCst);
                    self.in_user = true;
                }
                Next::Wait => {
                    if (self.may_halt)(self.machine) {
                        until(|| self.take_interrupts());
                    }
                    self.machine.frame().awake();
                }
            }
        }
    }

    /// User code that does nothing by itself: only an interrupt ends it.
    fn spin(&mut self) -> Event {
        until(|| self.take_interrupts());
        self.leave()
    }
}

fn core(machine: &Machine) -> Core<'_> {
    Core {
        machine,
        in_user: true,
        interrupts_seen: 0,
        may_halt: |machine| machine.frame().may_halt(&machine.reschedule),
    }
}

fn beside(machine: &Arc<Machine>, work: fn(&Machine)) -> thread::JoinHandle<()> {
    let machine = machine.clone();
    thread::spawn(move || work(&machine))
}

/// A system call, and its answer.
fn call_and_answer(may_halt: fn(&Machine) -> bool) {
    let machine = Machine::new();
    let linux = beside(&machine, |machine| {
        machine.linux_waits_for(FRAME_TRAPPED);
        machine.answer();
    });
    let mut core = Core { may_halt, ..core(&machine) };
    core.trap();
    assert!(matches!(core.leave(), Event::User));
    linux.join().unwrap();
    assert_eq!(machine.answers_taken.load(Ordering::SeqCst), 1);
}

#[test]
fn an_answer_wakes_a_core_that_falls_asleep() {
    loom::model(|| call_and_answer(|machine| machine.frame().may_halt(&machine.reschedule)));
}

/// Linux asks for the extended state, and answers then: it has the state when the frame is trapped again, whether or not the
/// core was falling asleep.
#[test]
fn what_linux_asks_for_is_written_before_the_frame_is_given_again() {
    with_few_preemptions(|| {
        let machine = Machine::new();
        let linux = beside(&machine, |machine| {
            machine.linux_waits_for(FRAME_TRAPPED);
            assert_eq!(machine.fetch(), 1);
            machine.answer();
        });
        let mut core = core(&machine);
        core.trap();
        assert!(matches!(core.leave(), Event::User));
        linux.join().unwrap();
        assert_eq!(machine.answers_taken.load(Ordering::SeqCst), 1);
    });
}

/// `sleeping` by a plain store, without a fence: the answer looks before it is seen.
#[test]
fn a_halt_with_a_plain_store_is_found_to_sleep_for_ever() {
    assert!(fails(|| call_and_answer(|machine| {
        machine.sleeping.store(1, Ordering::Release);
        machine.state.load(Ordering::SeqCst) != FRAME_ANSWERED && !machine.reschedule.load(Ordering::SeqCst)
    })));
}

/// Stop against answer: Linux answers a trap, and stops the thread at any moment of that. It sees a trap after the stop, and
/// each answer is taken once.
#[test]
fn a_stop_is_followed_by_a_trap_and_no_answer_is_taken_twice() {
    with_few_preemptions(|| {
        let machine = Machine::new();
        let stopper = beside(&machine, Machine::stop);
        let linux = beside(&machine, |machine| {
            machine.linux_waits_for(FRAME_TRAPPED);
            machine.answer();
        });
        let mut core = core(&machine);
        core.trap();
        assert!(matches!(core.leave(), Event::User | Event::Stopped));
        stopper.join().unwrap();
        linux.join().unwrap();
        let taken = machine.answers_taken.load(Ordering::SeqCst);
        assert_eq!(taken, 1, "answers taken");
        // The request was met by the first trap, or by one after the answer; nothing of it is left.
        if core.in_user {
            let _ = core.take_interrupts();
            match handshake::next(&machine.requests, true) {
                Next::Stop => core.trap(),
                other => assert_eq!(other, Next::Run),
            }
        }
        assert!(!handshake::is_stop_requested(&machine.requests), "the stop has not led to a trap");
    });
}

/// A running thread that is stopped traps, though it does nothing by itself.
#[test]
fn a_stop_reaches_a_thread_that_only_computes() {
    loom::model(|| {
        let machine = Machine::new();
        let linux = beside(&machine, |machine| {
            machine.stop();
            machine.linux_waits_for(FRAME_TRAPPED);
            machine.answer();
        });
        let mut core = core(&machine);
        assert!(matches!(core.spin(), Event::Stopped));
        assert!(matches!(core.leave(), Event::User));
        linux.join().unwrap();
        assert_eq!(machine.answers_taken.load(Ordering::SeqCst), 1);
    });
}

/// Exception against kill: the thread traps while it is deleted. Its core is free in the end, whether it waited or not.
#[test]
fn a_thread_that_is_deleted_while_it_traps_leaves_its_core() {
    loom::model(|| {
        let machine = Machine::new();
        let linux = beside(&machine, |machine| {
            machine.delete();
            machine.linux_waits_for(FRAME_IDLE);
        });
        let mut core = core(&machine);
        core.trap();
        assert!(matches!(core.leave(), Event::Ended));
        linux.join().unwrap();
        assert_eq!(machine.answers_taken.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_deletion_that_interrupts_nobody_is_found() {
    assert!(fails(|| {
        let machine = Machine::new();
        let linux = beside(&machine, |machine| {
            handshake::mark_dead(&machine.requests);
        });
        let mut core = core(&machine);
        core.trap();
        core.leave();
        linux.join().unwrap();
    }));
}
