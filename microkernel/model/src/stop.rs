//! THREAD_STOP and THREAD_RESUME of an ordinary thread or vCPU, on another core than its own.

use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::handshake::{self, State, StateWord};
use crate::{fails, until};

struct Thread {
    state: StateWord,
    requests: AtomicU64,
    queued: AtomicBool,
}

/// The home core looks once while another one stops the thread and lets it go on; then it must run.
fn stop_and_resume(stop: fn(&Thread) -> bool) {
    let thread = Arc::new(Thread {
        state: StateWord::new(State::Running),
        requests: AtomicU64::new(0),
        queued: AtomicBool::new(false),
    });
    let other = {
        let thread = thread.clone();
        thread::spawn(move || {
            handshake::request_stop(&thread.requests);
            if thread.state.go_on(&thread.requests) {
                assert!(!thread.queued.swap(true, Ordering::SeqCst), "made ready twice");
            }
        })
    };
    // `sched::retire`, and the scheduler after it.
    if handshake::is_stop_requested(&thread.requests) && stop(&thread) {
        until(|| thread.queued.swap(false, Ordering::SeqCst));
        thread.state.set(State::Running);
    }
    other.join().unwrap();
    assert!(thread.state.is(State::Running));
    assert!(!thread.queued.load(Ordering::SeqCst), "runs, and is in the run queue");
}

#[test]
fn a_thread_that_is_resumed_while_it_stops_runs_on_once() {
    loom::model(|| stop_and_resume(|thread| thread.state.stop(&thread.requests)));
}

/// As the kernel was: a plain store, which the load of the request may overtake.
#[test]
fn a_stop_with_a_plain_store_is_found_to_sleep_for_ever() {
    assert!(fails(|| stop_and_resume(|thread| {
        thread.state.set(State::Stopped);
        handshake::is_stop_requested(&thread.requests) || !thread.state.change(State::Stopped, State::Running)
    })));
}
