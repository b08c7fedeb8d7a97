//! What two cores can do to the same thread or address space at once, step by step: each function is the part of one of them.
//! The kernel calls these; `microkernel/model` runs the very same text under loom in all interleavings.
//! docs/state-machines.md has the diagrams.
//!
//! Stores that a later load must not overtake are SeqCst exchanges (locked instructions): x86 lets a plain store wait in its
//! buffer while the next load is done already (SDM vol. 3, 9.2.3.4).

use abi::{FRAME_ANSWERED, FRAME_TRAPPED};

use crate::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// What a thread does. Who changes it: the home core, or whoever took the thread out of the queue it waited in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not started (decoupled: no user context bound).
    Inactive,
    /// Being configured by somebody.
    Configuring,
    Ready,
    Running,
    WaitSend,
    WaitReceive,
    WaitReply,
    WaitNotification,
    /// A vCPU in RESUME_WAIT.
    WaitVcpu,
    /// Stopped by THREAD_STOP.
    Stopped,
    /// A fault that nobody handles; or the end of the thread.
    Dead,
}

/// A thread's state.
pub struct StateWord(AtomicU8);

impl StateWord {
    pub fn new(state: State) -> Self {
        Self(AtomicU8::new(state as u8))
    }

    #[cfg(any(test, feature = "check"))]
    pub fn get(&self) -> State {
        const ALL: [State; 11] = [
            State::Inactive,
            State::Configuring,
            State::Ready,
            State::Running,
            State::WaitSend,
            State::WaitReceive,
            State::WaitReply,
            State::WaitNotification,
            State::WaitVcpu,
            State::Stopped,
            State::Dead,
        ];
        ALL[usize::from(self.0.load(Ordering::Acquire))]
    }

    #[inline]
    pub fn is(&self, state: State) -> bool {
        self.0.load(Ordering::Acquire) == state as u8
    }

    #[inline]
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Release);
    }

    /// Change the state if it is `from`.
    #[inline]
    pub fn change(&self, from: State, to: State) -> bool {
        self.0.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Home core, RESUME_WAIT: sleep until something is pending. True: the thread does not go on here; whoever signalled has
    /// made it ready, or will.
    pub fn sleep(&self, pending: &AtomicU64) -> bool {
        self.0.swap(State::WaitVcpu as u8, Ordering::SeqCst);
        // A signal either finds the state set, or its bits are found here.
        pending.load(Ordering::SeqCst) == 0 || !self.change(State::WaitVcpu, State::Running)
    }

    /// Any core: OR signals into `pending` of the vCPU.
    #[inline]
    pub fn signal(&self, pending: &AtomicU64, bits: u64) -> Signalled {
        let old = pending.fetch_or(bits, Ordering::SeqCst);
        if self.change(State::WaitVcpu, State::Ready) {
            Signalled::Woken
        } else if old & bits == bits {
            Signalled::Known
        } else {
            Signalled::New
        }
    }

    /// Home core, before the thread would run: a stop was requested. True: it must not run.
    pub fn stop(&self, requests: &AtomicU64) -> bool {
        self.0.swap(State::Stopped as u8, Ordering::SeqCst);
        // THREAD_RESUME may have come just before the state was set.
        is_stop_requested(requests) || !self.change(State::Stopped, State::Running)
    }

    /// Any core, THREAD_RESUME. True: the thread was stopped, and the caller makes it ready.
    pub fn go_on(&self, requests: &AtomicU64) -> bool {
        withdraw_stop(requests);
        self.change(State::Stopped, State::Ready)
    }
}

/// What is left to do after a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// The vCPU slept: the caller puts it into its core's run queue.
    Woken,
    /// It runs, or will: its core has to be interrupted, to look.
    New,
    /// All these bits were set, so whoever set them interrupts the core.
    Known,
}

/// Bit of a thread's requests: THREAD_STOP was called.
pub const STOP: u64 = 2;
/// Bit of a thread's requests: it is to end.
pub const DEAD: u64 = 4;

#[inline]
pub fn request_stop(requests: &AtomicU64) {
    requests.fetch_or(STOP, Ordering::SeqCst);
}

#[inline]
pub fn withdraw_stop(requests: &AtomicU64) {
    requests.fetch_and(!STOP, Ordering::SeqCst);
}

#[inline]
pub fn is_stop_requested(requests: &AtomicU64) -> bool {
    requests.load(Ordering::SeqCst) & STOP != 0
}

/// The thread will not run any more. False: that was so already.
#[inline]
pub fn mark_dead(requests: &AtomicU64) -> bool {
    requests.fetch_or(DEAD, Ordering::SeqCst) & DEAD == 0
}

#[inline]
pub fn is_dead(requests: &AtomicU64) -> bool {
    requests.load(Ordering::SeqCst) & DEAD != 0
}

/// The words of a decoupled thread's frame that both sides write.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub state: &'a AtomicU32,
    pub sleeping: &'a AtomicU32,
}

/// What a decoupled thread's core does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The thread was deleted: the user context leaves the core.
    End,
    /// The user context runs on.
    Run,
    /// Its stop was requested: it traps.
    Stop,
    /// It waits for its answer.
    Wait,
}

/// Compute core, before it leaves the kernel.
#[inline]
pub fn next(requests: &AtomicU64, in_user: bool) -> Next {
    let requests = requests.load(Ordering::SeqCst);
    match (requests & DEAD != 0, in_user, requests & STOP != 0) {
        (true, ..) => Next::End,
        (_, true, true) => Next::Stop,
        (_, true, false) => Next::Run,
        (_, false, _) => Next::Wait,
    }
}

impl Frame<'_> {
    /// Compute core: the frame is complete and goes to Linux. A stop that was requested until now has its trap by that; one
    /// that comes later has the next.
    #[inline]
    pub fn publish(&self, requests: &AtomicU64) {
        withdraw_stop(requests);
        self.state.store(FRAME_TRAPPED, Ordering::SeqCst);
    }

    #[inline]
    pub fn is_answered(&self) -> bool {
        self.state.load(Ordering::Acquire) == FRAME_ANSWERED
    }

    /// Compute core: what Linux asked for beside is written, and it still has the trap to answer.
    pub fn give_again(&self) {
        self.state.store(FRAME_TRAPPED, Ordering::SeqCst);
    }

    /// Compute core: whether it may halt until an interrupt. Who answers from now on sees `sleeping`, and who wants
    /// something else of the core interrupts it.
    pub fn may_halt(&self, reschedule: &AtomicBool) -> bool {
        self.sleeping.swap(1, Ordering::SeqCst);
        self.state.load(Ordering::SeqCst) != FRAME_ANSWERED && !reschedule.load(Ordering::SeqCst)
    }

    /// Compute core: it does not halt (any more).
    pub fn awake(&self) {
        self.sleeping.store(0, Ordering::SeqCst);
    }
}

/// Which cores use an address space, and how often something was taken out of it.
pub struct Presence {
    active: AtomicU64,
    generation: AtomicU64,
}

impl Presence {
    pub fn new() -> Self {
        Self { active: AtomicU64::new(0), generation: AtomicU64::new(0) }
    }

    /// Cores that may use its translations.
    #[inline]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::SeqCst)
    }

    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// A core is about to load the tables. The generation that it will then have.
    #[inline(always)]
    pub fn enter(&self, core: u64) -> u64 {
        // From here on, other cores tell this one what they take away.
        self.active.fetch_or(core, Ordering::SeqCst);
        self.generation.load(Ordering::SeqCst)
    }

    /// A core that kept the tables loaded since `seen` uses them again. A generation, where it has to drop its translations.
    #[inline]
    pub fn enter_again(&self, core: u64, seen: u64) -> Option<u64> {
        if self.active.load(Ordering::Relaxed) & core != 0 {
            return None; // it never left
        }
        // Others may have taken mappings away without telling.
        Some(self.enter(core)).filter(|&now| now != seen)
    }

    /// A core stops using the translations, whether or not they stay loaded.
    #[inline(always)]
    pub fn leave(&self, core: u64) {
        self.active.fetch_and(!core, Ordering::SeqCst);
    }

    /// The end of a change of the tables, whose lock the caller has held since before it changed anything and holds still. If
    /// something was taken out, all cores that may use it are told at once, and have answered when this returns.
    ///
    /// Since every change ends so, whoever has the lock knows that nothing is in use that is not in the tables: it need not
    /// flush what it finds gone, though another core may have taken it out a moment before.
    #[inline(always)]
    pub fn settle(&self, taken_out: bool, cores: &impl Cores) -> Flushed {
        if taken_out {
            self.generation.fetch_add(1, Ordering::SeqCst);
            cores.drop_own();
            let others = self.active() & !cores.own();
            if others != 0 {
                tell(others, cores);
            }
        }
        Flushed(())
    }
}

/// No core uses what was taken out of an address space before. Only this makes memory free that was reached through it.
pub struct Flushed(());

/// The cores of the machine, as a flush needs them.
pub trait Cores {
    /// The bit of this core.
    fn own(&self) -> u64;
    /// Drop this core's own translations of the address space, where it may have some.
    fn drop_own(&self);
    /// The shootdowns asked of a core, and those done by it.
    fn counters(&self, core: usize) -> (&AtomicU64, &AtomicU64);
    fn interrupt(&self, core: usize);
    /// What this core does between two looks at another: what the other may be waiting for in the same way.
    fn meanwhile(&self);
}

/// Have other cores drop their translations: all begin before the first is waited for.
#[inline(never)]
fn tell(others: u64, cores: &impl Cores) {
    let each = || (0..64).filter(|core| others >> core & 1 != 0);
    for core in each() {
        cores.counters(core).0.fetch_add(1, Ordering::SeqCst);
        cores.interrupt(core);
    }
    for core in each() {
        let (requested, done) = cores.counters(core);
        // (What others have asked since comes on top, once.)
        let ticket = requested.load(Ordering::Relaxed);
        while done.load(Ordering::Acquire) < ticket {
            cores.meanwhile();
        }
    }
}

/// Begin an era: what was taken away before is used by no core that has come into it. `last` is the era that began last.
pub fn begin_era(last: &AtomicU64) -> u64 {
    last.fetch_add(1, Ordering::SeqCst) + 1
}

/// The era that a core may come into, before it looks at what may have been taken away.
pub fn current_era(last: &AtomicU64) -> u64 {
    last.load(Ordering::SeqCst)
}

/// This core is in an era: of what it used before, it uses nothing any more without another look.
pub fn enter_era(own: &AtomicU64, era: u64) {
    own.store(era, Ordering::Release);
}

pub fn is_in_era(core: &AtomicU64, era: u64) -> bool {
    core.load(Ordering::Acquire) >= era
}

/// Take something away that other cores may be about to use: call it until it says true; `awaited` is 0 before. `take` takes it out
/// of reach, and only then an era begins, for which to wait.
pub fn take_away(
    awaited: &AtomicU64,
    take: impl FnOnce(),
    begin: impl FnOnce() -> u64,
    all_are_in: impl FnOnce(u64) -> bool,
) -> bool {
    match awaited.load(Ordering::Relaxed) {
        0 => {
            take();
            awaited.store(begin(), Ordering::Relaxed);
            false
        }
        era => all_are_in(era),
    }
}

/// On the core itself: drop the translations where another core asks for it.
#[inline]
pub fn serve(requested: &AtomicU64, done: &AtomicU64, drop_translations: impl FnOnce()) {
    let asked = requested.load(Ordering::Acquire);
    if asked != done.load(Ordering::Relaxed) {
        drop_translations();
        done.store(asked, Ordering::Release);
    }
}
