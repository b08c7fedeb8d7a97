//! The locks, by their text: one holder at a time, who sees what the one before did.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::{fails, with_few_preemptions};

#[allow(dead_code, reason = "the models need no more than this")]
#[path = "../../kobj/src/sync.rs"]
mod text;

use text::{FairLock, SpinLock};

/// Two cores add to a number under a lock. (loom's cell panics when it is used by two at once.)
fn counts(lock: impl Fn(&dyn Fn()) + Clone + Send + Sync + 'static) {
    struct Number(UnsafeCell<u64>);
    // SAFETY: loom finds it if the lock does not keep them apart.
    unsafe impl Sync for Number {}
    // SAFETY: as for Sync: a number.
    unsafe impl Send for Number {}
    let number = Arc::new(Number(UnsafeCell::new(0)));
    let cores = [(); 2].map(|()| {
        let (number, lock) = (number.clone(), lock.clone());
        // SAFETY: under the lock.
        thread::spawn(move || lock(&|| number.0.with_mut(|number| unsafe { *number += 1 })))
    });
    cores.into_iter().for_each(|core| core.join().unwrap());
    // SAFETY: both have ended.
    number.0.with(|number| assert_eq!(unsafe { *number }, 2));
}

#[test]
fn a_fair_lock_admits_one_at_a_time() {
    with_few_preemptions(|| {
        let lock = Arc::new(FairLock::new());
        counts(move |work| {
            let _guard = lock.lock();
            work();
        });
    });
}

#[test]
fn a_spin_lock_admits_one_at_a_time() {
    with_few_preemptions(|| {
        let lock = Arc::new(SpinLock::new(()));
        counts(move |work| {
            let _guard = lock.lock();
            work();
        });
    });
}

#[test]
fn no_lock_is_found_to_admit_two() {
    assert!(fails(|| counts(|work| work())));
}
