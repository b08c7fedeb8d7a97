//! One thread that begins to wait, waits and is woken, against those who end its wait: the deletion of what it waits at, an
//! answer or a message, THREAD_CANCEL, and its own deletion. (`ipc.rs`, `object/endpoint.rs`, `object/thread.rs` and
//! `sched.rs` by hand. Locks are loom's, and to take one is a full fence, as the kernel's locked instruction is.)

use loom::sync::atomic::fence;
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::atomic::{AtomicU64, Ordering};
use crate::handshake::{self, State, StateWord};
use crate::{fails, until, with_few_preemptions};

struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        fence(Ordering::SeqCst);
        let mut value = self.0.lock().unwrap();
        fence(Ordering::SeqCst);
        work(&mut value)
    }

    fn take(&self) -> T
    where
        T: Default,
    {
        self.with(core::mem::take)
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Waiting {
    #[default]
    Nothing,
    /// In the Endpoint's queue.
    Endpoint,
    Reply,
}

/// The thread, and what it can wait at. (Whether a queue holds the thread is all that there is to a queue.)
struct Machine {
    state: StateWord,
    requests: AtomicU64,
    waiting: Lock<Waiting>,
    /// Capabilities to the Endpoint and to the Reply.
    caps: AtomicU64,
    queue: Lock<bool>,
    bound: Lock<bool>,
    ready: Lock<bool>,
    /// How often it was made ready.
    woken: AtomicU64,
    pokes: AtomicU64,
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: StateWord::new(State::Running),
            requests: AtomicU64::new(0),
            waiting: Lock::new(Waiting::Nothing),
            caps: AtomicU64::new(1),
            queue: Lock::new(false),
            bound: Lock::new(false),
            ready: Lock::new(false),
            woken: AtomicU64::new(0),
            pokes: AtomicU64::new(0),
        })
    }

    /// It waits at the Endpoint.
    fn queued() -> Arc<Self> {
        let machine = Self::new();
        assert!(machine.wait());
        machine
    }

    fn is_orphaned(&self) -> bool {
        self.caps.load(Ordering::Acquire) == 0
    }

    fn is_dead(&self) -> bool {
        handshake::is_dead(&self.requests)
    }

    /// `sched::wake`.
    fn wake(&self) {
        self.state.set(State::Ready);
        self.ready.with(|ready| assert!(!core::mem::replace(ready, true), "ready twice"));
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.pokes.fetch_add(1, Ordering::SeqCst);
    }

    /// `Thread::fail`.
    fn fail(&self) {
        self.waiting.take();
        self.wake();
    }

    /// `ipc::receive`, and a send without a receiver. False: it does not wait, since the Endpoint was deleted.
    fn wait(&self) -> bool {
        self.queue.with(|queue| {
            if self.is_orphaned() {
                return false;
            }
            self.state.set(State::WaitReceive);
            self.waiting.with(|waiting| *waiting = Waiting::Endpoint);
            *queue = true;
            true
        })
    }

    /// `ipc::await_reply`: a call whose message was taken.
    fn await_reply(&self, look_again: bool) {
        self.state.set(State::WaitReply);
        self.waiting.with(|waiting| *waiting = Waiting::Reply);
        let bound = self.bound.with(|bound| {
            *bound = !self.is_orphaned();
            *bound
        });
        if !bound || look_again && self.is_dead() && self.bound.take() {
            self.fail();
        }
    }

    /// The fast path's order: it holds the Reply from before the thread waits.
    fn await_reply_fast(&self) {
        let dead = self.bound.with(|bound| {
            self.state.set(State::WaitReply);
            self.waiting.with(|waiting| *waiting = Waiting::Reply);
            let dead = self.is_dead();
            *bound = !dead;
            dead
        });
        if dead {
            self.fail();
        }
    }

    /// `sched::choose` on the home core, once the thread waits; `look`: it looks whether the thread was deleted meanwhile.
    fn choose(&self, look: bool) {
        fence(Ordering::SeqCst);
        if look && self.is_dead() {
            self.cancel();
        }
    }

    /// `ipc::deliver` to a receiver that waits.
    fn deliver(&self) {
        if self.queue.take() {
            self.fail(); // (for the waiting thread, all ends of a wait are alike)
        }
    }

    /// `ipc::reply`.
    fn reply(&self) {
        if self.bound.take() {
            self.fail();
        }
    }

    /// `Thread::cancel`.
    fn cancel(&self) {
        let taken = match self.waiting.with(|waiting| *waiting) {
            Waiting::Nothing => false,
            Waiting::Endpoint => self.queue.take(),
            Waiting::Reply => self.bound.take(),
        };
        if taken {
            self.fail();
        }
    }

    /// The last capability to what it waits at goes.
    fn orphan(&self) {
        self.caps.swap(0, Ordering::SeqCst);
        self.deliver();
        self.reply();
    }

    /// `Thread::end`.
    fn end(&self) {
        handshake::mark_dead(&self.requests);
        self.cancel();
        if self.ready.take() {
            self.state.set(State::Dead);
        }
        self.pokes.fetch_add(1, Ordering::SeqCst);
    }

    /// `sched::choose` on the home core, which has nothing else to run, until the thread is dead.
    fn schedule_until_dead(&self) {
        let mut seen = 0;
        until(|| {
            let pokes = self.pokes.load(Ordering::SeqCst);
            if core::mem::replace(&mut seen, pokes) != pokes && self.ready.take() {
                // `retire`, or it runs until the next interrupt.
                self.state.set(if self.is_dead() { State::Dead } else { State::Running });
            } else if self.state.is(State::Running) && self.is_dead() {
                self.state.set(State::Dead);
            }
            self.state.is(State::Dead)
        });
    }

    /// In no queue, and made ready so often.
    fn assert_woken(&self, times: u64) {
        assert!(!self.queue.take() && !self.bound.take(), "it waits for ever");
        assert_eq!(self.woken.load(Ordering::SeqCst), times, "made ready");
    }
}

fn beside(machine: &Arc<Machine>, work: impl Fn(&Machine) + Send + Sync + 'static) -> thread::JoinHandle<()> {
    let machine = machine.clone();
    thread::spawn(move || work(&machine))
}

/// A thread comes to wait while the Endpoint is deleted: it does not, or is woken.
#[test]
fn nobody_waits_at_a_deleted_endpoint() {
    loom::model(|| {
        let machine = Machine::new();
        let deleter = beside(&machine, Machine::orphan);
        let waits = machine.wait();
        deleter.join().unwrap();
        machine.assert_woken(u64::from(waits));
    });
}

#[test]
fn asking_for_the_deletion_before_the_lock_is_found_to_wait_for_ever() {
    assert!(fails(|| {
        let machine = Machine::new();
        let deleter = beside(&machine, Machine::orphan);
        let waits = !machine.is_orphaned();
        if waits {
            machine.queue.with(|queue| *queue = true);
        }
        deleter.join().unwrap();
        machine.assert_woken(u64::from(waits));
    }));
}

/// Three cores claim a thread that waits: one gets it.
#[test]
fn a_message_a_deletion_and_a_cancellation_end_one_wait_once() {
    with_few_preemptions(|| {
        let machine = Machine::queued();
        let others = [Machine::deliver, Machine::orphan].map(|claim| beside(&machine, claim));
        machine.cancel();
        others.into_iter().for_each(|other| other.join().unwrap());
        machine.assert_woken(1);
    });
}

#[test]
fn a_cancellation_that_asks_the_thread_and_not_its_queue_is_found() {
    assert!(fails(|| {
        let machine = Machine::queued();
        let other = beside(&machine, Machine::deliver);
        if machine.waiting.take() == Waiting::Endpoint {
            machine.queue.take();
            machine.fail();
        }
        other.join().unwrap();
        machine.assert_woken(1);
    }));
}

/// A caller is deleted while it begins to wait for its answer.
fn call_against_end(call: fn(&Machine)) {
    let machine = Machine::new();
    let killer = beside(&machine, |machine| {
        handshake::mark_dead(&machine.requests);
        machine.cancel();
    });
    call(&machine);
    killer.join().unwrap();
    machine.assert_woken(1);
}

#[test]
fn a_deleted_caller_does_not_stay_with_its_reply() {
    loom::model(|| call_against_end(|machine| machine.await_reply(true)));
}

#[test]
fn nor_does_it_on_the_fast_path() {
    loom::model(|| call_against_end(Machine::await_reply_fast));
}

#[test]
fn a_caller_that_does_not_look_again_is_found_to_stay() {
    assert!(fails(|| call_against_end(|machine| machine.await_reply(false))));
}

/// The caller's deletion, its answer, and the Reply's deletion: one claims it.
#[test]
fn a_caller_is_claimed_once() {
    for claims in
        [[Machine::reply, Machine::cancel], [Machine::orphan, Machine::reply], [Machine::orphan, Machine::cancel]]
    {
        with_few_preemptions(move || {
            let machine = Machine::new();
            let first = beside(&machine, claims[0]);
            machine.await_reply(true);
            let second = beside(&machine, claims[1]);
            first.join().unwrap();
            second.join().unwrap();
            machine.reply(); // (the claims may have come before it waited)
            machine.assert_woken(1);
        });
    }
}

/// A thread is deleted while it queues; whoever deletes it may not find it there, then its core does.
fn wait_against_end(look: bool) {
    let machine = Machine::new();
    let killer = beside(&machine, |machine| {
        handshake::mark_dead(&machine.requests);
        machine.cancel();
    });
    assert!(machine.wait());
    machine.choose(look);
    killer.join().unwrap();
    machine.assert_woken(1);
}

#[test]
fn a_thread_that_is_deleted_while_it_queues_does_not_stay() {
    loom::model(|| wait_against_end(true));
}

#[test]
fn a_core_that_does_not_look_for_the_deletion_is_found() {
    assert!(fails(|| wait_against_end(false)));
}

/// A waiting thread is deleted while a message wakes it: it ends, and is in no queue.
#[test]
fn a_thread_that_is_deleted_while_it_is_woken_ends() {
    with_few_preemptions(|| {
        let machine = Machine::queued();
        let sender = beside(&machine, Machine::deliver);
        let killer = beside(&machine, Machine::end);
        machine.schedule_until_dead();
        sender.join().unwrap();
        killer.join().unwrap();
        machine.assert_woken(1);
        assert!(!machine.ready.take(), "dead, but ready");
    });
}

/// The same with an end that leaves its core asleep.
#[test]
fn an_end_without_an_interrupt_is_found() {
    assert!(fails(|| {
        let machine = Machine::queued();
        let sender = beside(&machine, |machine| {
            if machine.queue.take() {
                machine.waiting.take();
                machine.state.set(State::Ready);
                machine.ready.with(|ready| *ready = true);
            }
        });
        let killer = beside(&machine, |machine| {
            handshake::mark_dead(&machine.requests);
            machine.cancel();
        });
        machine.schedule_until_dead();
        sender.join().unwrap();
        killer.join().unwrap();
    }));
}
