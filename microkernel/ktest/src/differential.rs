//! The fast path against the general one: threads on one core do random operations, and every outcome goes, in the order
//! in which they came about, into one digest. Boots with and without `tacet.nofast` must agree on it: what each thread saw
//! and which thread ran when.
//!
//! The command line words `differential=N seed=S` run N operations instead of the tests. It wants a machine whose time follows the
//! instructions (QEMU's -icount), so that no time slice ends: threads of equal priority are part of it.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{
    Error, MAP_READ, MAP_WRITE, MSG_WORDS, MessagePage, RIGHT_ALL, RIGHT_READ, RIGHT_WRITE, ROOT_CAP_CSPACE, TAG_POLL,
};
use fastrand::Rng;
use rt::{invoke, println};

use crate::support::{self, Outcome, Shared, address, copy, delete, foreign_server, object, slot};

/// A digest is printed this many times, so that the first difference can be found.
const REPORTS: u64 = 20;

/// What the threads do, most of the time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Client,
    /// A client that faults at times.
    Faulting,
    /// Answers the faults.
    Handler,
    Anything,
}

/// Role and priority: all above the first thread's, which runs when all wait, and stirs.
const WORKERS: [(Role, u64); 10] = [
    (Role::Handler, 203),
    (Role::Server, 203),
    (Role::Server, 202),
    (Role::Server, 202),
    (Role::Client, 202),
    (Role::Client, 201),
    (Role::Client, 203),
    (Role::Faulting, 202),
    (Role::Anything, 201),
    (Role::Anything, 204),
];
const ENDPOINTS: usize = 3;
const NOTIFICATIONS: usize = 2;
/// Slots that operations pick from: of each Endpoint the original, a badged copy, and copies with one right; Replies;
/// Notifications and badged copies; the foreign server's Endpoint; an empty slot.
const PICKED: usize = 4 * ENDPOINTS + 3 + 2 * NOTIFICATIONS + 2;

static SLOTS: [Shared; PICKED] = [const { Shared::new() }; PICKED];
static REPLIES: [Shared; 4] = [const { Shared::new() }; 4];
static FAULTS: [Shared; 2] = [const { Shared::new() }; 2];
static PAGES: [Shared; WORKERS.len()] = [const { Shared::new() }; WORKERS.len()];
/// A free slot of each worker's, for capabilities that come with messages.
static SCRATCH: [Shared; WORKERS.len()] = [const { Shared::new() }; WORKERS.len()];
static SEED: Shared = Shared::new();
static GOAL: Shared = Shared::new();
static DONE: AtomicU64 = AtomicU64::new(0);
static DIGEST: AtomicU64 = AtomicU64::new(0xcbf2_9ce4_8422_2325);
/// System calls that the kernel did not refuse: a digest of refusals would say little.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);

global_asm!(".global fault_here", "fault_here:", "ud2", ".global fault_over", "fault_over:", "ret");
unsafe extern "C" {
    fn fault_here();
    fn fault_over();
}

/// Add to the digest (FNV-1a over words). One core, and no time slice ends: nobody comes between.
fn note(values: &[u64]) {
    let mut digest = DIGEST.load(Ordering::Relaxed);
    for value in values {
        digest = (digest ^ value).wrapping_mul(0x100_0000_01b3).rotate_left(23);
    }
    DIGEST.store(digest, Ordering::Relaxed);
}

/// All registers that a system call may change, as they come back: rax, rdi, rsi, rdx, r10, r8, r9; and rbx.
fn system_call(number: u64, handle: u64, tag: u64, words: [u64; 4], reply: u64) -> [u64; 8] {
    let mut out = [number, handle, tag, words[0], words[1], words[2], words[3], reply];
    // SAFETY: the convention of abi::syscall, with every register that it names as an output.
    unsafe {
        asm!(
            "xchg {rbx}, rbx", "syscall", "xchg {rbx}, rbx",
            rbx = inout(reg) out[7],
            inlateout("rax") out[0], inlateout("rdi") out[1], inlateout("rsi") out[2], inlateout("rdx") out[3],
            inlateout("r10") out[4], inlateout("r8") out[5], inlateout("r9") out[6],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    out
}

/// One worker's state.
struct Worker {
    index: u64,
    random: Rng,
    page: *mut MessagePage,
}

impl Worker {
    /// Mostly an Endpoint that can be called.
    fn pick_called(&mut self) -> u64 {
        match self.random.u64(..8) {
            0..2 => self.pick(),
            2 => SLOTS[PICKED - 2].get(),
            _ => SLOTS[4 * self.random.usize(..ENDPOINTS) + [0, 1, 3][self.random.usize(..3)]].get(),
        }
    }

    /// One of the slots.
    fn pick(&mut self) -> u64 {
        SLOTS[self.random.usize(..PICKED)].get()
    }

    fn reply(&mut self) -> u64 {
        match self.random.u64(..8) {
            0 => REPLIES[self.random.usize(..4)].get(),
            1 => self.pick(),
            _ => REPLIES[self.index as usize % 4].get(),
        }
    }

    /// Mostly short messages; now and then long ones, too long ones, a capability, reserved bits.
    fn tag(&mut self) -> u64 {
        let words = match self.random.u64(..16) {
            0..12 => self.random.u64(..5),
            12..15 => self.random.u64(..MSG_WORDS as u64 + 1),
            _ => self.random.u64(..256),
        };
        let caps = if self.random.u64(..12) == 0 { self.random.u64(..3) } else { 0 };
        let mut tag = abi::tag(self.random.u64(..1 << 31), words, caps);
        if self.random.u64(..40) == 0 {
            tag |= 1 << (44 + self.random.u64(..19));
        }
        tag
    }

    fn operate(&mut self, number: u64, handle: u64, tag: u64, reply: u64) {
        let words = [self.random.u64(..1 << 62), self.random.u64(..1 << 62), self.index, DONE.load(Ordering::Relaxed)];
        // SAFETY: this worker's message page.
        unsafe {
            (&raw mut (*self.page).words[4 + self.random.usize(..60)]).write_volatile(self.random.u64(..1 << 62));
            let cap = if self.random.bool() { SCRATCH[self.index as usize].get() } else { self.pick() };
            (&raw mut (*self.page).cap).write_volatile(cap);
        }
        let out = system_call(number, handle, tag, words, reply);
        note(&[self.index, number]);
        note(&out);
        let mut sum = 0u64;
        for i in 0..MSG_WORDS {
            // SAFETY: this worker's message page.
            sum = sum.rotate_left(7) ^ unsafe { (&raw const (*self.page).words[i]).read_volatile() };
        }
        note(&[sum]);
        DONE.fetch_add(1, Ordering::Relaxed);
        ACCEPTED.fetch_add(u64::from(out[0] == 0), Ordering::Relaxed);
        if out[2] >> 40 & 0xf != 0 && out[0] == 0 {
            // A capability may have come: make room again.
            let gone = delete(SCRATCH[self.index as usize].get()).is_ok();
            note(&[u64::from(gone)]);
        }
    }

    fn step(&mut self, role: Role) {
        let habit = self.random.u64(..10);
        match role {
            Role::Handler => self.answer_fault(),
            Role::Faulting if habit == 0 => {
                // SAFETY: the handler lets it return.
                unsafe { fault_here() };
                note(&[self.index, 0xfa]);
                DONE.fetch_add(1, Ordering::Relaxed);
            }
            Role::Server if habit < 9 => {
                let (endpoint, tag, reply) =
                    (SLOTS[4 * (self.index as usize % ENDPOINTS)].get(), self.tag(), self.reply());
                self.operate(abi::SYS_REPLY_RECV, endpoint, tag, reply);
            }
            Role::Client | Role::Faulting if habit < 8 => {
                let (handle, tag) = (self.pick_called(), self.tag());
                self.operate(abi::SYS_CALL, handle, tag, 0);
            }
            _ => {
                let number = self.random.u64(..4);
                let (handle, tag, reply) = (self.pick(), self.tag(), self.reply());
                let poll = if self.random.bool() { TAG_POLL } else { 0 };
                self.operate(number, handle, tag | poll, reply);
            }
        }
    }

    fn answer_fault(&mut self) {
        let over = fault_over as *const () as u64;
        let out =
            system_call(abi::SYS_REPLY_RECV, FAULTS[0].get(), abi::tag(0, 1, 0), [over, 0, 0, 0], FAULTS[1].get());
        note(&out);
    }
}

extern "C" fn worker(index: u64) -> ! {
    let mut worker = Worker {
        index,
        random: Rng::with_seed(SEED.get().wrapping_mul(index + 1).wrapping_add(index)),
        page: PAGES[index as usize].get() as *mut MessagePage,
    };
    let (role, _) = WORKERS[index as usize];
    loop {
        if DONE.load(Ordering::Relaxed) >= GOAL.get() {
            // Waits for ever: nobody signals it.
            system_call(abi::SYS_RECV, FAULTS[0].get(), 0, [0; 4], 0);
        } else {
            worker.step(role);
        }
    }
}

/// Fill a slot anew, from which everything is deleted before: what came into it with a message, too. (Deleting lets others
/// run, who may send another.)
fn refill(slot: u64, fill: impl Fn() -> Result<[u64; 2], Error>) -> Result<(), Error> {
    loop {
        let _ = delete(slot);
        match fill() {
            Err(Error::Occupied) => {}
            result => return result.map(drop),
        }
    }
}

/// Make an Endpoint and its copies in the slots for it.
fn endpoint(number: usize) -> Result<(), Error> {
    let [original, badged, read, write] = core::array::from_fn(|i| SLOTS[4 * number + i].get());
    refill(original, || invoke(support::POOL, abi::UNTYPED_RETYPE, &[abi::KIND_ENDPOINT, 0, original]))?;
    for (to, rights, badge) in [(badged, RIGHT_ALL, 77 + number as u64), (read, RIGHT_READ, 0), (write, RIGHT_WRITE, 5)]
    {
        refill(to, || invoke(ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[original, to, rights, badge]))?;
    }
    Ok(())
}

fn reply(number: usize) -> Result<(), Error> {
    let slot = REPLIES[number].get();
    refill(slot, || invoke(support::POOL, abi::UNTYPED_RETYPE, &[abi::KIND_REPLY, 0, slot]))
}

/// The first thread runs: all others wait. Have some of them go on.
fn stir(random: &mut Rng, threads: &[u64]) -> Result<(), Error> {
    let kind = random.u64(..16);
    note(&[0x5717, kind]);
    match kind {
        0 => {
            let number = random.usize(..ENDPOINTS);
            for slot in &SLOTS[4 * number + 1..4 * number + 4] {
                let _ = delete(slot.get());
            }
            endpoint(number)?;
        }
        1 => reply(random.usize(..4))?,
        2..6 => {
            // (Who faults is not cancelled: that would be its end.)
            let index = 1 + random.u64(..threads.len() as u64 - 1) as usize;
            if WORKERS[index].0 != Role::Faulting {
                note(&[invoke(threads[index], abi::THREAD_CANCEL, &[]).map_or_else(|e| e as u64, |_| 0)]);
            }
        }
        6 => {
            let index = random.u64(..threads.len() as u64) as usize;
            invoke(threads[index], abi::THREAD_STOP, &[])?;
            let out = system_call(abi::SYS_SEND, SLOTS[4 * (index % ENDPOINTS)].get(), TAG_POLL, [9; 4], 0);
            note(&out);
            invoke(threads[index], abi::THREAD_RESUME, &[])?;
        }
        _ => {
            let handle = SLOTS[random.usize(..PICKED)].get();
            let tag = abi::tag(random.u64(..1000), random.u64(..20), 0) | TAG_POLL;
            note(&system_call(abi::SYS_SEND, handle, tag, [random.u64(..1 << 40); 4], 0));
        }
    }
    Ok(())
}

/// Run `operations` operations; print the digest, and how long they took.
pub fn run(operations: u64, seed: u64) -> bool {
    support::begin();
    let begin = support::tsc();
    let outcome = differ(operations, seed);
    if let Err(failure) = &outcome {
        println!("differential: failed at {failure}");
    }
    // Not part of what must agree: the fast path takes fewer instructions, and so less of this machine's time.
    println!("time: {}", support::tsc() - begin);
    outcome.is_ok()
}

fn differ(operations: u64, seed: u64) -> Outcome {
    SEED.set(seed);
    GOAL.set(operations);
    for slot_of in SLOTS.iter().chain(&REPLIES).chain(&SCRATCH) {
        slot_of.set(slot());
    }
    (0..ENDPOINTS).try_for_each(endpoint)?;
    (0..REPLIES.len()).try_for_each(reply)?;
    for (i, index) in (4 * ENDPOINTS..4 * ENDPOINTS + 3).enumerate() {
        SLOTS[index].set(REPLIES[i].get());
    }
    for i in 0..NOTIFICATIONS {
        let at = 4 * ENDPOINTS + 3 + 2 * i;
        let notification = object(abi::KIND_NOTIFICATION, 0)?;
        SLOTS[at].set(notification);
        SLOTS[at + 1].set(copy(notification, RIGHT_ALL, 1 << i)?);
    }
    let foreign = object(abi::KIND_ENDPOINT, 0)?;
    SLOTS[PICKED - 2].set(copy(foreign, RIGHT_WRITE, 3)?);
    foreign_server(foreign, object(abi::KIND_REPLY, 0)?, 4, 202)?;
    FAULTS[0].set(object(abi::KIND_ENDPOINT, 0)?);
    FAULTS[1].set(object(abi::KIND_REPLY, 0)?);
    let mut threads = [0; WORKERS.len()];
    for (i, (thread, (_, priority))) in threads.iter_mut().zip(WORKERS).enumerate() {
        *thread = object(abi::KIND_THREAD, 0)?;
        let range = object(abi::KIND_RANGE, 5)?;
        let at = address(5 * 4096);
        invoke(abi::ROOT_CAP_TASK, abi::TASK_MAP, &[range, 0, at, 5 * 4096, MAP_READ | MAP_WRITE])?;
        PAGES[i].set(at);
        invoke(*thread, abi::THREAD_CONFIGURE, &[ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 0, FAULTS[0].get()])?;
        invoke(*thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, priority])?;
        invoke(*thread, abi::THREAD_START, &[worker as *const () as u64, at + 5 * 4096 - 8, i as u64])?;
    }
    let mut random = Rng::with_seed(seed);
    let mut reported = 0;
    let mut stirred = 0u64;
    while DONE.load(Ordering::Relaxed) < operations {
        stir(&mut random, &threads)?;
        stirred += 1;
        let done = DONE.load(Ordering::Relaxed);
        if done >= (reported + 1) * operations / REPORTS {
            reported += 1;
            let accepted = ACCEPTED.load(Ordering::Relaxed);
            println!(
                "differential: {done} operations, {accepted} accepted, {stirred} stirs: {:016x}",
                DIGEST.load(Ordering::Relaxed)
            );
        }
    }
    Ok(())
}
