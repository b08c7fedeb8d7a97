//! The coordinator: a vCPU of the highest priority on core 0, so that it has a timer; it sets batches up, sees that they
//! go on, ends them, and has the kernel checked.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Error, RESUME_WAIT, SYS_VCPU_RESUME, TAG_POLL, VcpuState};
use kcore::check::MACHINE_CHECK;
use rt::{invoke, println, raw};

use crate::calls;
use crate::canary;
use crate::playground::{self, HARNESS, Meeting, PLAY};
use crate::random::Random;
use crate::worker::{self, BATCH, RESULTS, SEED, STOPPED, WORKERS};

/// What the command line asks for.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub calls: u64,
    /// Calls of one batch.
    pub batch: u64,
    pub cores: u64,
    pub tsc_hz: u64,
}

impl Plan {
    /// First of the canary's cores: where there are enough, they come before the last.
    fn canary(&self) -> Option<u64> {
        let first = self.cores.checked_sub(1 + canary::CORES)?;
        (first >= 2).then_some(first)
    }

    /// Where there are enough cores, the last is left to decoupled threads.
    fn working_cores(&self) -> u64 {
        self.canary().unwrap_or(if self.cores > 2 { self.cores - 1 } else { self.cores })
    }

    /// Cores of the playground's threads.
    pub fn play_cores(&self) -> u64 {
        self.cores - if self.canary().is_some() { canary::CORES } else { 0 }
    }

    /// One of them by its number: the last is the machine's last.
    pub fn core(&self, number: u64) -> u64 {
        if number + 1 == self.play_cores() { self.cores - 1 } else { number }
    }

    fn workers(&self) -> u64 {
        (self.working_cores() * WORKERS_PER_CORE).min(worker::MAX_WORKERS as u64)
    }
}

const WORKERS_PER_CORE: u64 = 3;
const PAGE_AT: u64 = 0x50_2000_0000;
const THREAD: u64 = HARNESS;
const RANGE: u64 = HARNESS + 1;
const WORKER: u64 = HARNESS + 8;
/// Looks at progress in a second.
const TICKS_PER_SECOND: u64 = 500;
/// Ticks without a call after which the batch ends.
const GIVE_UP: u64 = 20;
/// Ticks after which a worker that does not leave a batch is stuck.
const STUCK: u64 = 20 * TICKS_PER_SECOND;

static PLAN: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// Make coordinator and workers; the calling thread then sleeps for ever.
pub fn start(plan: Plan) -> ! {
    let words = [plan.seed, plan.calls, plan.batch, plan.cores, plan.tsc_hz];
    for (place, word) in PLAN.iter().zip(words) {
        place.store(word, Ordering::SeqCst);
    }
    if let Err(error) = launch(plan) {
        println!("kfuzz: cannot set up: {error:?}");
        rt::exit(1);
    }
    // The vCPU waits for this thread's core no longer than this takes.
    let _ = raw(abi::SYS_RECV, HARNESS + 2, 0, [0; 4], 0);
    println!("kfuzz: the first thread was woken");
    rt::exit(1)
}

fn launch(plan: Plan) -> Result<(), Error> {
    playground::prepare()?;
    SEED.store(plan.seed, Ordering::SeqCst);
    for number in 0..plan.workers() {
        let (slot, at) = (WORKER + 2 * number, PAGE_AT + (number + 1) * (2 << 20));
        // Message page, number, stack.
        playground::memory(8, slot + 1, at)?;
        // SAFETY: just mapped.
        unsafe { ((at + 4096) as *mut u64).write(number) };
        thread(slot, PLAY, (slot + 1, 0), number % plan.working_cores(), 100, 0)?;
        invoke(slot, abi::THREAD_START, &[worker::main as *const () as u64, at + 8 * 4096 - 8, at])?;
    }
    if let Some(core) = plan.canary() {
        canary::launch(core)?;
    }
    invoke(abi::ROOT_CAP_UNTYPED, abi::UNTYPED_RETYPE, &[abi::KIND_NOTIFICATION, 0, HARNESS + 2])?;
    playground::memory(8, RANGE, PAGE_AT)?;
    thread(THREAD, abi::ROOT_CAP_CSPACE, (RANGE, 4096), 0, 255, 0)?;
    invoke(THREAD, abi::THREAD_VCPU, &[RANGE, 0])?;
    rt::use_message((PAGE_AT + 4096) as *mut abi::MessagePage);
    invoke(THREAD, abi::THREAD_START, &[main as *const () as u64, PAGE_AT + 8 * 4096 - 8, 0]).map(drop)
}

/// Make a thread of the harness.
pub fn thread(slot: u64, cspace: u64, message: (u64, u64), core: u64, priority: u64, faults: u64) -> Result<(), Error> {
    invoke(abi::ROOT_CAP_UNTYPED, abi::UNTYPED_RETYPE, &[abi::KIND_THREAD, 0, slot])?;
    invoke(slot, abi::OBJECT_NAME, &[u64::from_le_bytes(*b"fuzzer\0\0"), 0])?;
    invoke(slot, abi::THREAD_CONFIGURE, &[cspace, abi::ROOT_CAP_TASK, message.0, message.1, faults])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, priority]).map(drop)
}

extern "C" fn main(_: u64) -> ! {
    let word = |i: usize| PLAN[i].load(Ordering::SeqCst);
    let plan = Plan { seed: word(0), calls: word(1), batch: word(2), cores: word(3), tsc_hz: word(4) };
    println!("kfuzz: seed={} calls={} batch={} on {} cores", plan.seed, plan.calls, plan.batch, plan.cores);
    if let Err(error) = run(&plan) {
        println!("kfuzz: the harness failed: {error:?}");
        rt::exit(1);
    }
    let total = |result: usize| WORKERS.iter().map(|w| w.results[result].load(Ordering::Relaxed)).sum::<u64>();
    println!("kfuzz: {} calls succeeded", total(0));
    for (result, error) in (1..RESULTS).filter_map(|r| Some((r, Error::from_status(-(r as i64))?))) {
        println!("kfuzz: {} calls: {error:?}", total(result));
    }
    for (kind, label, count) in calls::successes() {
        println!("kfuzz: method {label} of kind {kind} succeeded {count} times");
    }
    for (how, rounds) in canary::rounds() {
        println!("kfuzz: the canary's memory was {how} {rounds} times");
    }
    println!("kfuzz: done, {} calls, seed {}", made(), plan.seed);
    rt::exit(0)
}

fn made() -> u64 {
    WORKERS.iter().map(|w| w.calls.load(Ordering::Relaxed)).sum()
}

fn check(list: bool) -> Result<[u64; 2], Error> {
    invoke(abi::ROOT_CAP_MACHINE, MACHINE_CHECK, &[u64::from(list)])
}

fn run(plan: &Plan) -> Result<(), Error> {
    let mut told = 0;
    let mut batch = 0;
    while made() < plan.calls {
        batch += 1;
        let mut random = Random::new([plan.seed, batch, u64::MAX]);
        let meeting = playground::set_up(&mut random, plan)?;
        let end = (made() + plan.batch).min(plan.calls);
        BATCH.store(batch, Ordering::SeqCst);
        watch(plan, &mut random, &meeting, end);
        BATCH.store(STOPPED, Ordering::SeqCst);
        let [objects, caps] = check(false)?;
        playground::tear_down()?;
        await_workers(plan, batch)?;
        await_memory(plan, batch)?;
        check(false)?;
        if made() - told >= (plan.calls / 100).clamp(1, 100_000) || made() >= plan.calls {
            told = made();
            println!("kfuzz: {told} of {} calls, batch {batch}, {objects} objects, {caps} capabilities", plan.calls);
        }
    }
    Ok(())
}

/// Until the batch has had its calls, or there are no more though nobody waits: threads of higher priority, or decoupled
/// ones, have the workers' cores for themselves.
fn watch(plan: &Plan, random: &mut Random, meeting: &Meeting, end: u64) {
    let (mut before, mut idle) = ([0; worker::MAX_WORKERS], 0);
    while made() < end {
        sleep(plan);
        if plan.canary().is_some() {
            canary::tick(plan.seed);
        }
        playground::restock(random, meeting);
        let now = WORKERS.each_ref().map(|w| w.calls.load(Ordering::Relaxed));
        idle = if now == before { idle + 1 } else { 0 };
        if idle >= GIVE_UP {
            return;
        }
        let waiting = (0..plan.workers()).filter(|&i| now[i as usize] == before[i as usize]);
        if waiting.clone().next().is_some() {
            answer(meeting);
        }
        waiting.for_each(cancel);
        before = now;
    }
}

/// End a worker's wait, should it wait.
fn cancel(worker: u64) {
    let _ = invoke(WORKER + 2 * worker, abi::THREAD_CANCEL, &[]);
}

/// Serve who waits at the places that the coordinator knows.
fn answer(meeting: &Meeting) {
    for endpoint in meeting.endpoints {
        while raw(abi::SYS_RECV, endpoint, TAG_POLL, [0; 4], meeting.reply).is_ok() {}
        let _ = raw(abi::SYS_SEND, endpoint, TAG_POLL, [0; 4], 0);
    }
    for notification in meeting.notifications {
        let _ = raw(abi::SYS_SEND, notification, 0, [0; 4], 0);
    }
}

fn await_workers(plan: &Plan, batch: u64) -> Result<(), Error> {
    for (number, worker) in WORKERS.iter().enumerate().take(plan.workers() as usize) {
        let mut waited = 0;
        while worker.left.load(Ordering::SeqCst) != worker.joined.load(Ordering::SeqCst) {
            sleep(plan);
            waited += 1;
            if waited == STUCK {
                check(true)?;
                println!("kfuzz: worker {number} does not come back, seed {} batch {batch}", plan.seed);
                rt::exit(1);
            }
        }
    }
    Ok(())
}

/// Cores hold on to the address space they used last: each has to come by a worker's. Then all memory is back.
fn await_memory(plan: &Plan, batch: u64) -> Result<(), Error> {
    let mut waited = 0;
    while !playground::is_clean()? {
        sleep(plan);
        waited += 1;
        if waited == STUCK {
            println!("kfuzz: memory of batch {batch} does not come back, seed {}", plan.seed);
            check(true)?;
            rt::exit(1);
        }
    }
    Ok(())
}

/// One tick of the vCPU's timer.
fn sleep(plan: &Plan) {
    // SAFETY: RDTSC is always there; the page is the coordinator's own.
    let (now, page) = unsafe { (core::arch::x86_64::_rdtsc(), &*(PAGE_AT as *const VcpuState)) };
    invoke(THREAD, abi::THREAD_TIMER, &[now + plan.tsc_hz / TICKS_PER_SECOND]).expect("a vCPU has a timer");
    while page.pending.swap(0, Ordering::SeqCst) == 0 {
        let _ = raw(SYS_VCPU_RESUME, RESUME_WAIT, 0, [0; 4], 0);
    }
}
