//! One thread that begins to wait, waits and is woken, against those who end its wait: the deletion of what it waits at, an
//! answer, a message or a signal, THREAD_CANCEL, and its own deletion. Queues, waits and their ends are `kobj`'s text; the
//! home core (`sched.rs`) and the order of the fast path are by hand.

use core::cell::Cell;

use abi::Error;
use loom::sync::Arc;
use loom::sync::atomic::fence;
use loom::thread;

use crate::atomic::{AtomicU64, Ordering};
use crate::handshake::{self, State};
use crate::header::{Header, Kind, Object, Ref};
use crate::ipc::Manner;
use crate::meeting::{Endpoint, Notification, Reply};
use crate::sync::SpinLock;
use crate::waiting::{Rest, Sleeper, Waiting};
use crate::{fails, ipc, until, with_few_preemptions};

#[repr(C)]
struct Thread {
    header: Header,
    rest: Rest<Thread>,
    requests: AtomicU64,
    /// It is in its core's run queue.
    ready: SpinLock<bool>,
    /// How often it was made ready.
    woken: AtomicU64,
    pokes: AtomicU64,
    /// What its last wait gave: status and bits.
    result: Cell<(i64, u64)>,
}

// SAFETY: repr(C), header first, made with Kind::Thread only.
unsafe impl Object for Thread {
    const KIND: Kind = Kind::Thread;
}

// SAFETY: the models have one type of threads, and each of these is one field.
unsafe impl Sleeper for Thread {
    fn rest(&self) -> &Rest<Self> {
        &self.rest
    }

    fn priority(&self) -> u8 {
        0
    }

    fn is_dead(&self) -> bool {
        handshake::is_dead(&self.requests)
    }

    fn set_result(&self, status: i64, badge: u64, _: u64) {
        self.result.set((status, badge));
    }

    /// `sched::wake`.
    fn wake(thread: Ref<Self>) {
        thread.rest.state.set(State::Ready);
        assert!(!core::mem::replace(&mut *thread.ready.lock(), true), "ready twice");
        thread.woken.fetch_add(1, Ordering::SeqCst);
        thread.pokes.fetch_add(1, Ordering::SeqCst);
    }

    fn end_fault(&self) -> bool {
        false
    }

    fn transfer(&self, _: &Self, _: u64, _: u64) {}

    fn answer(&self, _: &Self) {}
}

impl Thread {
    /// `Thread::end`.
    fn end(&self) {
        handshake::mark_dead(&self.requests);
        self.cancel(Error::Cancelled);
        if core::mem::take(&mut *self.ready.lock()) {
            self.rest.state.set(State::Dead);
        }
        self.pokes.fetch_add(1, Ordering::SeqCst);
    }

    fn kill(&self) {
        handshake::mark_dead(&self.requests);
        self.cancel(Error::Cancelled);
    }
}

/// An object that stays for ever.
fn make<T: Object>(make: impl FnOnce(Header) -> T) -> Ref<T> {
    let object = Box::into_raw(Box::new(make(Header::new::<T>(None))));
    // SAFETY: `Header::new` counts one reference, which is this.
    let object = unsafe { Ref::from_raw(object) };
    core::mem::forget(object.clone());
    object
}

fn make_thread() -> Ref<Thread> {
    make(|header| Thread {
        header,
        rest: Rest::new(State::Running),
        requests: AtomicU64::new(0),
        ready: SpinLock::new(false),
        woken: AtomicU64::new(0),
        pokes: AtomicU64::new(0),
        result: Cell::new((1, 0)),
    })
}

/// The thread, who sends to it or answers, and what they wait at, each with one capability.
struct Machine {
    thread: Ref<Thread>,
    peer: Ref<Thread>,
    endpoint: Ref<Endpoint<Thread>>,
    reply: Ref<Reply<Thread>>,
    notification: Ref<Notification<Thread>>,
}

impl Machine {
    fn new() -> Arc<Self> {
        let machine = Self {
            thread: make_thread(),
            peer: make_thread(),
            endpoint: make(Endpoint::new),
            reply: make(Reply::new),
            notification: make(Notification::new),
        };
        machine.endpoint.clone().any().add_cap();
        machine.reply.clone().any().add_cap();
        machine.notification.clone().any().add_cap();
        Arc::new(machine)
    }

    /// The thread waits at the Endpoint.
    fn queued() -> Arc<Self> {
        let machine = Self::new();
        assert!(machine.wait());
        machine
    }

    /// The peer waits at the Endpoint for the thread's call.
    fn served() -> Arc<Self> {
        let machine = Self::new();
        ipc::receive(&machine.peer, machine.endpoint.clone(), Some(machine.reply.clone()), false).unwrap();
        machine
    }

    /// The thread receives. False: it does not wait, since the Endpoint was deleted.
    fn wait(&self) -> bool {
        ipc::receive(&self.thread, self.endpoint.clone(), None, false).is_ok()
    }

    /// The thread calls the peer, which is waiting.
    fn call(&self) {
        ipc::send(&self.thread, self.endpoint.clone(), 0, 0, Manner::Call);
    }

    /// The same in the order of the fast path: it holds the Reply from before the thread waits.
    fn call_fast(&self) {
        let receiver = self.endpoint.waiters.lock().receivers.pop().unwrap();
        let mut bound = self.reply.caller.lock();
        self.thread.begin_to_wait(State::WaitReply, Waiting::Reply { reply: self.reply.clone() });
        *receiver.rest.waiting.lock() = Waiting::Nothing;
        if self.thread.is_dead() {
            drop(bound);
            *self.thread.rest.waiting.lock() = Waiting::Nothing;
            Thread::wake(self.thread.clone());
        } else {
            *bound = Some(self.thread.clone());
        }
    }

    /// `sched::choose` on the home core, once the thread waits; `look`: it looks whether the thread was deleted meanwhile.
    fn choose(&self, look: bool) {
        fence(Ordering::SeqCst);
        if look && self.thread.is_dead() {
            self.thread.cancel(Error::Cancelled);
        }
    }

    fn deliver(&self) {
        ipc::send(&self.peer, self.endpoint.clone(), 0, 0, Manner::Poll);
    }

    fn answer(&self) {
        ipc::reply(&*self.peer, &self.reply);
    }

    fn cancel(&self) {
        self.thread.cancel(Error::Cancelled);
    }

    /// The last capabilities to what it waits at go.
    fn orphan_endpoint(&self) {
        self.endpoint.clone().any().remove_cap();
    }

    fn orphan_reply(&self) {
        self.reply.clone().any().remove_cap();
    }

    /// `sched::choose` on the home core, which has nothing else to run, until the thread is dead.
    fn schedule_until_dead(&self) {
        let thread = &self.thread;
        let mut seen = 0;
        until(|| {
            let pokes = thread.pokes.load(Ordering::SeqCst);
            if core::mem::replace(&mut seen, pokes) != pokes && core::mem::take(&mut *thread.ready.lock()) {
                // `retire`, or it runs until the next interrupt.
                thread.rest.state.set(if thread.is_dead() { State::Dead } else { State::Running });
            } else if thread.rest.state.is(State::Running) && thread.is_dead() {
                thread.rest.state.set(State::Dead);
            }
            thread.rest.state.is(State::Dead)
        });
    }

    /// In no queue, and made ready so often.
    fn assert_woken(&self, times: u64) {
        let thread = &self.thread;
        let mut waiters = self.endpoint.waiters.lock();
        let queued = waiters.receivers.remove(thread).is_some() || waiters.senders.remove(thread).is_some();
        drop(waiters);
        let waits = queued || self.reply.take_if(thread).is_some();
        let waits = waits || self.notification.waiters.lock().remove(thread).is_some();
        assert!(!waits, "it waits for ever");
        assert!(matches!(*thread.rest.waiting.lock(), Waiting::Nothing), "it waits in no queue");
        assert_eq!(thread.woken.load(Ordering::SeqCst), times, "made ready");
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
        let deleter = beside(&machine, Machine::orphan_endpoint);
        let waits = machine.wait();
        deleter.join().unwrap();
        machine.assert_woken(u64::from(waits));
    });
}

#[test]
fn asking_for_the_deletion_before_the_lock_is_found_to_wait_for_ever() {
    assert!(fails(|| {
        let machine = Machine::new();
        let deleter = beside(&machine, Machine::orphan_endpoint);
        let waits = !machine.endpoint.header().is_orphaned();
        if waits {
            let mut waiters = machine.endpoint.waiters.lock();
            let at = Waiting::Receive { endpoint: machine.endpoint.clone(), reply: None };
            machine.thread.begin_to_wait(State::WaitReceive, at);
            waiters.receivers.push(machine.thread.clone());
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
        let others = [Machine::deliver, Machine::orphan_endpoint].map(|claim| beside(&machine, claim));
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
        let thread = &machine.thread;
        if matches!(core::mem::take(&mut *thread.rest.waiting.lock()), Waiting::Receive { .. }) {
            machine.endpoint.waiters.lock().receivers.remove(thread);
            thread.fail(Error::Cancelled);
        }
        other.join().unwrap();
        machine.assert_woken(1);
    }));
}

/// A caller is deleted while it begins to wait for its answer.
fn call_against_end(call: fn(&Machine)) {
    let machine = Machine::served();
    let killer = beside(&machine, |machine| machine.thread.kill());
    call(&machine);
    killer.join().unwrap();
    machine.assert_woken(1);
}

#[test]
fn a_deleted_caller_does_not_stay_with_its_reply() {
    with_few_preemptions(|| call_against_end(Machine::call));
}

#[test]
fn nor_does_it_on_the_fast_path() {
    with_few_preemptions(|| call_against_end(Machine::call_fast));
}

#[test]
fn a_caller_that_does_not_look_again_is_found_to_stay() {
    assert!(fails(|| {
        call_against_end(|machine| {
            machine.thread.begin_to_wait(State::WaitReply, Waiting::Reply { reply: machine.reply.clone() });
            machine.reply.bind(machine.thread.clone());
        });
    }));
}

/// The caller's deletion, its answer, and the Reply's deletion: one claims it.
#[test]
fn a_caller_is_claimed_once() {
    for claims in [
        [Machine::answer, Machine::cancel],
        [Machine::orphan_reply, Machine::answer],
        [Machine::orphan_reply, Machine::cancel],
    ] {
        with_few_preemptions(move || {
            let machine = Machine::served();
            let first = beside(&machine, claims[0]);
            machine.call();
            let second = beside(&machine, claims[1]);
            first.join().unwrap();
            second.join().unwrap();
            machine.answer(); // (the claims may have come before it waited)
            machine.assert_woken(1);
        });
    }
}

/// A thread is deleted while it queues; whoever deletes it may not find it there, then its core does.
fn wait_against_end(look: bool) {
    let machine = Machine::new();
    let killer = beside(&machine, |machine| machine.thread.kill());
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
        let killer = beside(&machine, |machine| machine.thread.end());
        machine.schedule_until_dead();
        sender.join().unwrap();
        killer.join().unwrap();
        machine.assert_woken(1);
        assert!(!*machine.thread.ready.lock(), "dead, but ready");
    });
}

/// The same with an end that leaves its core asleep.
#[test]
fn an_end_without_an_interrupt_is_found() {
    assert!(fails(|| {
        let machine = Machine::queued();
        let sender = beside(&machine, |machine| {
            if let Some(thread) = machine.endpoint.waiters.lock().receivers.pop() {
                *thread.rest.waiting.lock() = Waiting::Nothing;
                thread.rest.state.set(State::Ready);
                *thread.ready.lock() = true;
            }
        });
        let killer = beside(&machine, |machine| machine.thread.kill());
        machine.schedule_until_dead();
        sender.join().unwrap();
        killer.join().unwrap();
    }));
}

/// The thread waits for signals; one core signals twice, and another takes what is there, as the fast path does, without the
/// queue's lock. Each signal goes to one of them, and nobody is woken for nothing.
fn signals_against_taking(signal: fn(&Notification<Thread>, u64)) {
    let machine = Machine::new();
    assert_eq!(machine.notification.wait(&machine.thread, false), Ok(None));
    let signaller = beside(&machine, move |machine| {
        signal(&machine.notification, 1);
        signal(&machine.notification, 2);
    });
    let taken = machine.notification.take();
    signaller.join().unwrap();
    machine.assert_woken(1);
    let (status, got) = machine.thread.result.get();
    assert!(status == 0 && got != 0, "woken without a signal");
    let left = machine.notification.take();
    assert_eq!((got | taken | left, got + taken + left), (3, 3), "a signal was lost, or came twice");
}

#[test]
fn who_waits_for_signals_gets_some() {
    loom::model(|| signals_against_taking(Notification::signal));
}

/// As the kernel was: the bits pass through the word.
#[test]
fn signals_that_pass_through_the_word_are_found_to_wake_for_nothing() {
    assert!(fails(|| {
        signals_against_taking(|notification, bits| {
            let mut waiters = notification.waiters.lock();
            notification.word.fetch_or(bits, Ordering::Release);
            if let Some(thread) = waiters.pop() {
                let word = notification.word.swap(0, Ordering::Acquire);
                drop(waiters);
                *thread.rest.waiting.lock() = Waiting::Nothing;
                thread.set_result(0, word, 0);
                Thread::wake(thread);
            }
        });
    }));
}

/// Two threads come to wait, or find a signal, while two cores signal: each signal is got, and nobody sleeps beside one.
#[test]
fn no_signal_is_lost_to_who_begins_to_wait() {
    with_few_preemptions(|| {
        let machine = Machine::new();
        let signaller = beside(&machine, |machine| machine.notification.signal(1));
        let found = machine.notification.wait(&machine.thread, false).unwrap();
        signaller.join().unwrap();
        machine.assert_woken(u64::from(found.is_none()));
        assert_eq!(found.unwrap_or(machine.thread.result.get().1), 1);
    });
}
