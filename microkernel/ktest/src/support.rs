//! What tests share: slots, memory, threads, and a way to say what went wrong.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Error, MAP_EXEC, MAP_READ, MAP_WRITE, RIGHT_ALL, RootBoot};
use fastrand::Rng;
use rt::invoke;

pub struct Test {
    pub name: &'static str,
    /// Cores that the test needs.
    pub cores: u64,
    pub run: fn() -> Outcome,
}

/// Why a test failed: the line, and what was seen there.
pub struct Failure {
    pub line: u32,
    pub saw: [u64; 2],
    pub error: Option<Error>,
}

pub type Outcome = Result<(), Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {}: saw {:#x} {:#x} {:?}", self.line, self.saw[0], self.saw[1], self.error)
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self { line: core::panic::Location::caller().line(), saw: [0; 2], error: Some(error) }
    }
}

/// Fail unless two numbers are equal.
#[track_caller]
pub fn equal(saw: u64, expected: u64) -> Outcome {
    if saw == expected {
        return Ok(());
    }
    Err(Failure { line: core::panic::Location::caller().line(), saw: [saw, expected], error: None })
}

/// Fail unless a call was refused with this error.
#[track_caller]
pub fn refused<T>(result: Result<T, Error>, expected: Error) -> Outcome {
    match result {
        Err(error) if error == expected => Ok(()),
        Err(error) => Err(Failure { line: core::panic::Location::caller().line(), saw: [0; 2], error: Some(error) }),
        Ok(_) => Err(Failure { line: core::panic::Location::caller().line(), saw: [0; 2], error: None }),
    }
}

/// The test's own Untyped; everything a test makes comes from it.
pub const POOL: u64 = abi::ROOT_CAP_FREE;
const POOL_PAGES: u64 = 2048;
const FIRST_SLOT: u64 = abi::ROOT_CAP_FREE + 8;
/// Addresses for what tests map into the root Task.
const FIRST_ADDRESS: u64 = 0x50_0000_0000;

static NEXT_SLOT: AtomicU64 = AtomicU64::new(0);
/// The highest that was given out.
static LAST_SLOT: AtomicU64 = AtomicU64::new(0);
static NEXT_ADDRESS: AtomicU64 = AtomicU64::new(0);
static CORES: AtomicU64 = AtomicU64::new(0);
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

pub fn init(boot: &RootBoot) {
    CORES.store(boot.cores, Ordering::Relaxed);
    TSC_HZ.store(boot.tsc_hz, Ordering::Relaxed);
    invoke(abi::ROOT_CAP_THREAD, abi::OBJECT_NAME, &[u64::from_le_bytes(*b"ktest\0\0\0"), 0]).expect("naming");
}

pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

pub fn begin() {
    NEXT_SLOT.store(FIRST_SLOT, Ordering::Relaxed);
    NEXT_ADDRESS.store(FIRST_ADDRESS, Ordering::Relaxed);
    rt::retype(abi::ROOT_CAP_UNTYPED, abi::KIND_UNTYPED, POOL_PAGES, POOL).expect("the test's Untyped");
    IDLE.set(object(abi::KIND_ENDPOINT, 0).expect("the Endpoint for idle threads"));
}

/// Take everything back that the test made.
pub fn clean_up() {
    revoke(POOL).expect("revoke");
    // Copies of what is not the test's own: cores, interrupts.
    for slot in FIRST_SLOT..=LAST_SLOT.swap(0, Ordering::Relaxed) {
        let _ = delete(slot);
    }
    let end = NEXT_ADDRESS.load(Ordering::Relaxed);
    if end > FIRST_ADDRESS {
        invoke(abi::ROOT_CAP_TASK, abi::TASK_UNMAP, &[FIRST_ADDRESS, end - FIRST_ADDRESS]).expect("unmap");
    }
    invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[POOL]).expect("delete the test's Untyped");
}

/// For a test of many parts: as if each were a test.
pub fn begin_anew() {
    clean_up();
    begin();
}

/// Free bytes of the test's Untyped.
pub fn free_bytes() -> u64 {
    invoke(POOL, abi::UNTYPED_FREE, &[]).expect("free bytes")[0]
}

pub fn slot() -> u64 {
    let slot = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
    LAST_SLOT.fetch_max(slot, Ordering::Relaxed);
    slot
}

/// Slots behind `last` are empty again: give them out anew.
pub fn reuse_slots(last: u64) {
    NEXT_SLOT.store(last + 1, Ordering::Relaxed);
}

pub fn address(bytes: u64) -> u64 {
    NEXT_ADDRESS.fetch_add(bytes.next_multiple_of(2 << 20), Ordering::Relaxed)
}

/// Make an object; its slot.
pub fn object(kind: u64, size: u64) -> Result<u64, Error> {
    let slot = slot();
    rt::retype(POOL, kind, size, slot)?;
    Ok(slot)
}

pub fn copy(from: u64, rights: u64, badge: u64) -> Result<u64, Error> {
    let to = slot();
    invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[from, to, rights, badge])?;
    Ok(to)
}

pub fn delete(slot: u64) -> Result<(), Error> {
    invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[slot]).map(drop)
}

/// Revoke what was derived from a capability, in as many calls as it takes.
pub fn revoke(slot: u64) -> Result<(), Error> {
    loop {
        match invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[slot]) {
            Err(Error::Cancelled) => {}
            done => return done.map(drop),
        }
    }
}

/// Memory that this program sees: (Range slot, address).
pub fn memory(pages: u64) -> Result<(u64, u64), Error> {
    let range = object(abi::KIND_RANGE, pages)?;
    let at = address(pages * 4096);
    invoke(abi::ROOT_CAP_TASK, abi::TASK_MAP, &[range, 0, at, pages * 4096, MAP_READ | MAP_WRITE])?;
    Ok((range, at))
}

/// What a thread of this program runs.
pub type Entry = extern "C" fn(u64) -> !;

/// Start a thread of this program on a core, with a message page of its own; its slot.
pub fn thread(core: u64, priority: u64, fault_endpoint: u64, entry: Entry, argument: u64) -> Result<u64, Error> {
    thread_in(abi::ROOT_CAP_CSPACE, core, priority, fault_endpoint, entry, argument).map(|(slot, _)| slot)
}

/// The same with a CSpace of its choice. (Thread slot, its message page.)
pub fn thread_in(
    cspace: u64,
    core: u64,
    priority: u64,
    fault_endpoint: u64,
    entry: Entry,
    argument: u64,
) -> Result<(u64, u64), Error> {
    let slot = object(abi::KIND_THREAD, 0)?;
    let (range, at) = memory(5)?;
    invoke(slot, abi::THREAD_CONFIGURE, &[cspace, abi::ROOT_CAP_TASK, range, 0, fault_endpoint])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, priority])?;
    invoke(slot, abi::THREAD_START, &[entry as *const () as u64, at + 5 * 4096 - 8, argument])?;
    Ok((slot, at))
}

/// The Endpoint that a test's threads use, where they use one.
pub static ENDPOINT: Shared = Shared::new();
/// An Endpoint that nobody sends to.
static IDLE: Shared = Shared::new();

/// What a thread does that has done its part.
pub fn sleep_for_ever() -> ! {
    loop {
        let _ = rt::receive(IDLE.get(), 0);
    }
}

extern "C" fn signal_then_sleep(slot: u64) -> ! {
    let _ = rt::send(slot, 0, [0; 4], 0);
    sleep_for_ever()
}

/// Let threads of lower priority on this core run until they wait.
pub fn let_others_run() -> Outcome {
    let bell = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    thread(0, 1, 0, signal_then_sleep, bell)?;
    rt::receive(bell, 0)?;
    Ok(())
}

/// Machine code of a user program: `code!(NAME, "instruction", ...)` defines it, `bytes(&NAME)` gives it. It must not
/// depend on its place. Local labels 98 and 99 are taken.
#[macro_export]
macro_rules! code {
    ($name:ident, $($line:literal),+ $(,)?) => {
        core::arch::global_asm!(
            ".section .rodata",
            concat!(".global ", stringify!($name)),
            ".balign 8",
            concat!(stringify!($name), ":"),
            ".quad 99f - 98f",
            "98:", $($line,)+ "99:",
            ".text",
        );
        unsafe extern "C" {
            static $name: u64;
        }
    };
}

pub fn bytes(code: *const u64) -> &'static [u8] {
    // SAFETY: `code!` puts the length before the instructions.
    unsafe { core::slice::from_raw_parts(code.add(1).cast(), *code as usize) }
}

/// A user program in a Task of its own on core 0, and where its faults come in.
pub struct Program {
    pub endpoint: u64,
    pub reply: u64,
    pub thread: u64,
    pub task: u64,
    /// Its page at [`DATA`], as seen here.
    pub data: u64,
}

impl Program {
    /// Run `code` with empty registers and the stack at the end of the data page.
    pub fn start(code: &[u8]) -> Result<Self, Error> {
        Self::start_on(0, code)
    }

    pub fn start_on(core: u64, code: &[u8]) -> Result<Self, Error> {
        let (task, _, data) = user_task(code)?;
        let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
        let thread = start_in(task, core, 10, endpoint)?;
        Ok(Self { endpoint, reply, thread, task, data })
    }

    /// Wait for its next fault: vector, error, address, rip.
    pub fn fault(&self) -> Result<[u64; 4], Error> {
        rt::receive(self.endpoint, self.reply).map(|fault| fault.words)
    }

    /// A word of its data page.
    pub fn word(&self, index: usize) -> u64 {
        // SAFETY: the page is mapped here for the test's length.
        unsafe { (self.data as *const u64).add(index).read_volatile() }
    }

    pub fn set_word(&self, index: usize, value: u64) {
        // SAFETY: the page is mapped here for the test's length.
        unsafe { (self.data as *mut u64).add(index).write_volatile(value) }
    }
}

/// A Task with `code` at [`CODE`] and one page of data at [`DATA`]. (Task, data Range, data as seen here.)
pub fn user_task(code: &[u8]) -> Result<(u64, u64, u64), Error> {
    let task = object(abi::KIND_TASK, 0)?;
    let (code_range, code_at) = memory(1)?;
    // SAFETY: a fresh page.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), code_at as *mut u8, code.len()) };
    invoke(task, abi::TASK_MAP, &[code_range, 0, CODE, 4096, MAP_READ | MAP_EXEC])?;
    let (data_range, data_at) = memory(1)?;
    invoke(task, abi::TASK_MAP, &[data_range, 0, DATA, 4096, MAP_READ | MAP_WRITE])?;
    Ok((task, data_range, data_at))
}

/// Start a thread in a Task that [`user_task`] made; its slot.
pub fn start_in(task: u64, core: u64, priority: u64, fault_endpoint: u64) -> Result<u64, Error> {
    let thread = object(abi::KIND_THREAD, 0)?;
    let (message, _) = memory(1)?;
    invoke(thread, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, task, message, 0, fault_endpoint])?;
    invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, priority])?;
    invoke(thread, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
    Ok(thread)
}

// Its data page has the slots of an Endpoint and a Reply, and the tag of its answers. (SYS_RECV and SYS_REPLY_RECV.)
code!(
    SERVER,
    "mov edi, [0x800000]",
    "mov ebx, [0x800008]",
    "xor esi, esi",
    "mov eax, 3",
    "syscall",
    "2:",
    "mov edi, [0x800000]",
    "mov rsi, [0x800010]",
    "mov eax, 1",
    "syscall",
    "jmp 2b",
);
const _: () = assert!(abi::SYS_RECV == 3 && abi::SYS_REPLY_RECV == 1);

/// A thread of this core in a Task of its own that sends `words` words of every message back.
pub fn foreign_server(endpoint: u64, reply: u64, words: u64, priority: u64) -> Result<(), Error> {
    let (task, _, data) = user_task(bytes(&raw const SERVER))?;
    // SAFETY: its data page, as seen here.
    unsafe { (data as *mut [u64; 3]).write_volatile([endpoint, reply, abi::tag(0, words, 0)]) };
    start_in(task, 0, priority, 0).map(drop)
}

pub const CODE: u64 = 0x40_0000;
pub const DATA: u64 = 0x80_0000;

/// A shared word that other threads of this program write.
pub struct Shared(pub AtomicU64);

impl Shared {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Wait until the word has a value; false after about ten seconds.
    pub fn await_value(&self, value: u64) -> bool {
        wait_for(|| self.get() == value)
    }
}

pub fn tsc() -> u64 {
    // SAFETY: RDTSC is always there.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Let a hundredth of a second pass.
pub fn pause() {
    let end = tsc() + tsc_hz() / 100;
    while tsc() < end {
        core::hint::spin_loop();
    }
}

/// Fail unless a condition holds.
#[track_caller]
pub fn holds(condition: bool) -> Outcome {
    equal(u64::from(condition), 1)
}

/// A race that this core holds with another one, again and again: how long it waits, so that now one comes first, now the
/// other, however fast the machine is.
pub struct Race {
    random: Rng,
    ticks: u64,
    /// How often this core was too early, and too late.
    outcomes: [u64; 2],
}

impl Race {
    pub fn new() -> Self {
        Self { random: Rng::with_seed(7), ticks: 1000, outcomes: [0; 2] }
    }

    /// The other core has just been let go; wait before doing this core's part.
    pub fn wait(&mut self) {
        let end = tsc() + self.random.u64(..self.ticks);
        while tsc() < end {}
    }

    /// Whether the other core came first this time.
    pub fn ended(&mut self, other_came_first: bool) {
        self.outcomes[usize::from(other_came_first)] += 1;
        self.ticks = if other_came_first { self.ticks - self.ticks / 8 } else { self.ticks + self.ticks / 8 + 10 };
    }

    /// Fail unless each core came first at times.
    #[track_caller]
    pub fn both_happened(&self) -> Outcome {
        if !self.outcomes.contains(&0) {
            return Ok(());
        }
        Err(Failure { line: core::panic::Location::caller().line(), saw: self.outcomes, error: None })
    }
}

pub fn cores() -> u64 {
    CORES.load(Ordering::Relaxed)
}

/// Whether the kernel log has had a line with this text since `position`, which moves on.
pub fn logged(position: &mut u64, text: &str) -> bool {
    loop {
        let Ok([length, next]) = invoke(abi::ROOT_CAP_LOG, abi::LOG_READ, &[*position]) else { return false };
        if length == 0 {
            return false;
        }
        // SAFETY: LOG_READ wrote so many bytes behind word 4 of this thread's page.
        let found = unsafe {
            let bytes = (&raw const (*rt::message()).words).cast::<u8>().add(32);
            core::slice::from_raw_parts(bytes, length as usize)
        };
        // Lines may be cut between two reads: the overlap keeps a whole one together.
        if found.windows(text.len()).any(|window| window == text.as_bytes()) {
            *position = next;
            return true;
        }
        let last = (length as usize) < abi::LOG_BYTES;
        *position = if last { next } else { next - text.len() as u64 };
        if last {
            return false;
        }
    }
}

/// Position behind all that was logged so far.
pub fn log_end() -> u64 {
    invoke(abi::ROOT_CAP_LOG, abi::LOG_READ, &[u64::MAX]).map_or(0, |[_, position]| position)
}

/// Poll a condition; false after about ten seconds, which only happens where the kernel is wrong.
pub fn wait_for(mut condition: impl FnMut() -> bool) -> bool {
    let end = tsc() + 10 * tsc_hz();
    while tsc() < end {
        if condition() {
            return true;
        }
        core::hint::spin_loop();
    }
    condition()
}
