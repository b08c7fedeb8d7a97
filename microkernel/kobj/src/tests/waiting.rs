//! Queues, and the places where threads meet.

use core::cell::Cell;

use super::*;
use crate::handshake::State;
use crate::ipc::Manner;

#[repr(C)]
struct Thread {
    header: Header,
    rest: Rest<Thread>,
    priority: u8,
    dead: Cell<bool>,
    /// It waits for the answer to a fault.
    fault: Cell<bool>,
    /// Status, badge and how often it was made ready.
    result: Cell<(i64, u64)>,
    woken: Cell<u32>,
    /// Its message, and the one that it got: word, badge, rights.
    says: Cell<u64>,
    heard: Cell<(u64, u64, u64)>,
}

// SAFETY: repr(C), header first, made with Kind::Thread only.
unsafe impl Object for Thread {
    const KIND: Kind = Kind::Thread;
}

// SAFETY: the tests have one type of threads, and each of these is one field.
unsafe impl Sleeper for Thread {
    fn rest(&self) -> &Rest<Self> {
        &self.rest
    }

    fn priority(&self) -> u8 {
        self.priority
    }

    fn is_dead(&self) -> bool {
        self.dead.get()
    }

    fn set_result(&self, status: i64, badge: u64, _: u64) {
        self.result.set((status, badge));
    }

    fn wake(thread: Ref<Self>) {
        thread.rest.state.set(State::Ready);
        thread.woken.set(thread.woken.get() + 1);
    }

    fn end_fault(&self) -> bool {
        let fault = self.fault.replace(false);
        if fault {
            self.rest.state.set(State::Dead);
        }
        fault
    }

    fn transfer(&self, to: &Self, badge: u64, rights: u64) {
        to.heard.set((self.says.get(), badge, rights));
        to.result.set((0, badge));
    }

    fn answer(&self, to: &Self) {
        to.fault.set(false);
        self.transfer(to, 0, 0);
    }
}

fn make(payer: &Ref<Untyped>, priority: u8, says: u64) -> Ref<Thread> {
    let thread = |header| Thread {
        header,
        rest: Rest::new(State::Running),
        priority,
        dead: Cell::new(false),
        fault: Cell::new(false),
        result: Cell::new((99, 0)),
        woken: Cell::new(0),
        says: Cell::new(says),
        heard: Cell::new((0, 0, 0)),
    };
    create(payer, thread).unwrap()
}

/// An Endpoint, Reply and Notification in slots 1 to 3 of a CSpace.
struct Place {
    space: Ref<CSpace>,
    endpoint: Ref<Endpoint<Thread>>,
    reply: Ref<Reply<Thread>>,
    notification: Ref<Notification<Thread>>,
}

impl Place {
    fn new(payer: &Ref<Untyped>) -> Self {
        let space = CSpace::create(payer, 8).unwrap();
        let endpoint = create(payer, Endpoint::new).unwrap();
        let reply = create(payer, Reply::new).unwrap();
        let notification = create(payer, Notification::new).unwrap();
        space.insert_new(1, endpoint.clone().any(), None).unwrap();
        space.insert_new(2, reply.clone().any(), None).unwrap();
        space.insert_new(3, notification.clone().any(), None).unwrap();
        Self { space, endpoint, reply, notification }
    }
}

fn state(thread: &Thread) -> State {
    thread.rest.state.get()
}

/// Against a sorted list.
#[test]
fn a_queue_is_first_come_first_served_within_a_priority() {
    let rounds = if cfg!(miri) { 200 } else { 50_000 };
    let untyped = boot_memory(16);
    let threads: Vec<_> = (0..8).map(|i| make(&untyped, i % 3, 0)).collect();
    let mut queue = Queue::new();
    let mut list: Vec<&Ref<Thread>> = Vec::new();
    let random = Random::new(3);
    for _ in 0..rounds {
        let thread = &threads[random.below(8) as usize];
        let queued = list.iter().position(|other| other.is(thread));
        match (random.below(3), queued) {
            (0, None) => {
                queue.push(thread.clone());
                let place = list.iter().position(|other| other.priority < thread.priority).unwrap_or(list.len());
                list.insert(place, thread);
            }
            (1, place) => {
                assert_eq!(queue.remove(thread).is_some(), place.is_some());
                place.map(|place| list.remove(place));
            }
            (2, _) => {
                let expected = if list.is_empty() { None } else { Some(list.remove(0)) };
                let got = queue.pop();
                assert_eq!(got.is_some(), expected.is_some());
                assert!(got.iter().all(|got| expected.unwrap().is(got)));
            }
            _ => {}
        }
        assert_eq!(queue.first_priority(), list.first().map(|thread| thread.priority));
    }
    while queue.pop().is_some() {}
    assert!(threads.iter().all(|thread| thread.header().counts().0 == 1));
    drop(threads);
    finish();
}

#[test]
fn a_call_brings_a_message_and_its_answer_and_both_go_on() {
    let untyped = boot_memory(16);
    let place = Place::new(&untyped);
    let [client, server] = [(5, 41), (5, 42)].map(|(priority, says)| make(&untyped, priority, says));
    for client_first in [true, false] {
        let receive = || ipc::receive(&server, place.endpoint.clone(), Some(place.reply.clone()), false).unwrap();
        let call = || ipc::send(&client, place.endpoint.clone(), 7, 1, Manner::Call);
        client.woken.set(0);
        if client_first {
            call();
            assert_eq!(state(&client), State::WaitSend);
            receive();
        } else {
            receive();
            assert_eq!(state(&server), State::WaitReceive);
            call();
            assert_eq!(state(&server), State::Ready);
        }
        assert_eq!(server.heard.get(), (41, 7, 1));
        assert_eq!((state(&client), client.woken.get()), (State::WaitReply, 0));
        ipc::reply(&*server, &place.reply);
        assert_eq!((state(&client), client.woken.get(), client.heard.get()), (State::Ready, 1, (42, 0, 0)));
        ipc::reply(&*server, &place.reply);
        assert_eq!(client.woken.get(), 1, "answered once");
    }
}

#[test]
fn polling_never_waits() {
    let untyped = boot_memory(16);
    let place = Place::new(&untyped);
    let thread = make(&untyped, 1, 0);
    assert!(ipc::send(&thread, place.endpoint.clone(), 0, 0, Manner::Poll));
    assert_eq!(ipc::receive(&thread, place.endpoint.clone(), None, true), Err(Error::Empty));
    assert_eq!(place.notification.wait(&thread, true), Err(Error::Empty));
    assert_eq!(state(&thread), State::Running);
}

#[test]
fn who_cannot_be_answered_is_told() {
    let untyped = boot_memory(16);
    let place = Place::new(&untyped);
    let [client, server] = [(); 2].map(|()| make(&untyped, 1, 0));
    // A receiver without a Reply.
    ipc::receive(&server, place.endpoint.clone(), None, false).unwrap();
    ipc::send(&client, place.endpoint.clone(), 0, 0, Manner::Call);
    assert_eq!((state(&client), client.result.get().0), (State::Ready, Error::Deleted.status()));
    // A Reply that is bound to another caller before the answer.
    let second = make(&untyped, 1, 0);
    for caller in [&client, &second] {
        ipc::receive(&server, place.endpoint.clone(), Some(place.reply.clone()), false).unwrap();
        ipc::send(caller, place.endpoint.clone(), 0, 0, Manner::Call);
    }
    assert_eq!((state(&client), state(&second)), (State::Ready, State::WaitReply));
    // A fault that nobody answers ends the thread.
    second.fault.set(true);
    place.space.delete(2).unwrap();
    assert_eq!(state(&second), State::Dead);
}

#[test]
fn a_deletion_ends_every_wait_in_steps() {
    let untyped = boot_memory(64);
    let place = Place::new(&untyped);
    let threads: Vec<_> = (0..40).map(|_| make(&untyped, 1, 0)).collect();
    threads.iter().for_each(|thread| ipc::receive(thread, place.endpoint.clone(), None, false).unwrap());
    place.space.delete(1).unwrap();
    let woken = || threads.iter().filter(|thread| state(thread) == State::Ready).count();
    assert!((1..40).contains(&woken()), "one step ends some");
    finish();
    assert_eq!(woken(), 40);
    assert!(threads.iter().all(|thread| thread.result.get().0 == Error::Deleted.status()));
    assert_eq!(ipc::receive(&threads[0], place.endpoint.clone(), None, false), Err(Error::Deleted));
}

#[test]
fn a_cancelled_thread_is_in_no_queue() {
    let untyped = boot_memory(16);
    let place = Place::new(&untyped);
    let [thread, peer] = [(); 2].map(|()| make(&untyped, 1, 0));
    let waits: [&dyn Fn(); 4] = [
        &|| ipc::receive(&thread, place.endpoint.clone(), None, false).unwrap(),
        &|| assert!(!ipc::send(&thread, place.endpoint.clone(), 0, 0, Manner::Send)),
        &|| assert_eq!(place.notification.wait(&thread, false), Ok(None)),
        &|| {
            ipc::receive(&peer, place.endpoint.clone(), Some(place.reply.clone()), false).unwrap();
            ipc::send(&thread, place.endpoint.clone(), 0, 0, Manner::Call);
        },
    ];
    for wait in waits {
        wait();
        assert!(thread.cancel(Error::Cancelled));
        assert_eq!((state(&thread), thread.result.get().0), (State::Ready, Error::Cancelled.status()));
        assert!(!thread.cancel(Error::Cancelled));
    }
    assert_eq!(thread.woken.get(), 4);
    // Nobody is there for what comes now.
    place.notification.signal(4);
    assert_eq!(place.notification.take(), 4);
    assert!(ipc::send(&peer, place.endpoint.clone(), 0, 0, Manner::Poll));
    assert_eq!(thread.woken.get(), 4);
}

#[test]
fn signals_gather_until_somebody_takes_them() {
    let untyped = boot_memory(16);
    let place = Place::new(&untyped);
    let [first, second] = [(); 2].map(|()| make(&untyped, 1, 0));
    place.notification.signal(1);
    assert!(place.notification.signal_unless_awaited(2));
    assert_eq!(place.notification.wait(&first, false), Ok(Some(3)));
    for thread in [&first, &second] {
        assert_eq!(place.notification.wait(thread, false), Ok(None));
    }
    assert!(!place.notification.signal_unless_awaited(4));
    place.notification.signal(4);
    place.notification.signal(8);
    assert_eq!((first.result.get(), second.result.get()), ((0, 4), (0, 8)));
    assert_eq!(place.notification.take(), 0);
}
