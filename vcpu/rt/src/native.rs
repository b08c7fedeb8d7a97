//! See the crate's documentation.

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, Ordering};

use abi::{Error, MessagePage, TAG_POLL, tag};

global_asm!(
    ".global _start",
    "_start:",
    "xor ebp, ebp",
    "push rbp", // keeps the stack aligned and ends backtraces
    "call {start}",
    "ud2",
    start = sym start,
);

unsafe extern "C" {
    fn main(argument: u64, message: *mut MessagePage) -> !;
}

static MESSAGE: AtomicPtr<MessagePage> = AtomicPtr::new(core::ptr::null_mut());

extern "C" fn start(argument: u64, message: *mut MessagePage) -> ! {
    MESSAGE.store(message, Ordering::Relaxed);
    // SAFETY: the program defines it with this signature.
    unsafe { main(argument, message) }
}

/// The message page in use: the first thread's, unless [`use_message`] changed it.
pub fn message() -> *mut MessagePage {
    MESSAGE.load(Ordering::Relaxed)
}

/// From now on, calls use this page: that of the thread that makes them.
pub fn use_message(message: *mut MessagePage) {
    MESSAGE.store(message, Ordering::Relaxed);
}

/// What a system call gives back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    pub badge: u64,
    pub tag: u64,
    pub words: [u64; 4],
}

impl Answer {
    pub fn label(&self) -> u64 {
        self.tag & 0xffff_ffff
    }

    pub fn length(&self) -> usize {
        (self.tag >> 32 & 0xff) as usize
    }
}

#[inline]
fn status(rax: i64) -> Result<(), Error> {
    match Error::from_status(rax) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The SYSCALL instruction with all of its registers.
#[inline]
pub fn raw(number: u64, handle: u64, tag: u64, words: [u64; 4], reply: u64) -> Result<Answer, Error> {
    let rax: i64;
    let mut a = Answer { badge: handle, tag, words };
    // SAFETY: the convention of abi::syscall; the kernel changes only the registers listed. rbx is saved by hand, since
    // the compiler keeps it for itself.
    unsafe {
        asm!(
            "xchg {reply}, rbx",
            "syscall",
            "xchg {reply}, rbx",
            reply = inout(reg) reply => _,
            inlateout("rax") number as i64 => rax,
            inlateout("rdi") a.badge, inlateout("rsi") a.tag,
            inlateout("rdx") a.words[0], inlateout("r10") a.words[1], inlateout("r8") a.words[2], inlateout("r9") a.words[3],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    status(rax)?;
    Ok(a)
}

/// Call a method with up to four words. Words 0 and 1 of the answer.
#[inline]
pub fn invoke(handle: u64, method: u64, words: &[u64]) -> Result<[u64; 2], Error> {
    let mut w = [0; 4];
    for (slot, word) in w.iter_mut().zip(words) {
        *slot = *word;
    }
    if words.len() > 4 {
        // SAFETY: the program's message page; only the first thread calls methods of more than four words.
        unsafe { (&raw mut (*message()).words[4]).write(words[4]) };
    }
    let answer = raw(abi::SYS_CALL, handle, tag(method, words.len() as u64, 0), w, 0)?;
    Ok([answer.words[0], answer.words[1]])
}

/// Make an object, in as many calls as it takes.
pub fn retype(untyped: u64, kind: u64, size: u64, slot: u64) -> Result<(), Error> {
    loop {
        match invoke(untyped, abi::UNTYPED_RETYPE, &[kind, size, slot]) {
            Err(Error::Cancelled) => {}
            done => return done.map(drop),
        }
    }
}

/// Send a message and wait for the answer.
#[inline]
pub fn call(endpoint: u64, label: u64, words: [u64; 4], length: u64) -> Result<Answer, Error> {
    raw(abi::SYS_CALL, endpoint, tag(label, length, 0), words, 0)
}

/// Signal, or send without waiting for an answer.
#[inline]
pub fn send(handle: u64, label: u64, words: [u64; 4], length: u64) -> Result<(), Error> {
    raw(abi::SYS_SEND, handle, tag(label, length, 0), words, 0).map(drop)
}

/// Wait for a message (`reply`: where a caller will wait for the answer) or for signals (in `badge`).
#[inline]
pub fn receive(handle: u64, reply: u64) -> Result<Answer, Error> {
    raw(abi::SYS_RECV, handle, 0, [0; 4], reply)
}

/// As [`receive`], but [`Error::Empty`] instead of waiting.
#[inline]
pub fn poll(handle: u64, reply: u64) -> Result<Answer, Error> {
    raw(abi::SYS_RECV, handle, TAG_POLL, [0; 4], reply)
}

/// Answer the caller that waits at `reply`, then receive.
#[inline]
pub fn reply_receive(endpoint: u64, reply: u64, label: u64, words: [u64; 4], length: u64) -> Result<Answer, Error> {
    raw(abi::SYS_REPLY_RECV, endpoint, tag(label, length, 0), words, reply)
}

/// A line being gathered for the kernel log.
pub struct Line {
    bytes: [u8; abi::LOG_BYTES],
    length: usize,
}

impl Line {
    pub const fn new() -> Self {
        Self { bytes: [0; abi::LOG_BYTES], length: 0 }
    }

    pub fn flush(&mut self, log: u64) {
        if self.length == 0 {
            return;
        }
        // SAFETY: the program's message page holds LOG_BYTES behind word 4.
        unsafe {
            let text = (&raw mut (*message()).words).cast::<u8>().add(32);
            core::ptr::copy_nonoverlapping(self.bytes.as_ptr(), text, self.length);
        }
        let _ = raw(abi::SYS_CALL, log, tag(abi::LOG_WRITE, 1, 0), [self.length as u64, 0, 0, 0], 0);
        self.length = 0;
    }
}

impl Write for Line {
    /// What does not fit a line of [`abi::LOG_BYTES`] is cut off.
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.bytes.len() - self.length);
        self.bytes[self.length..self.length + n].copy_from_slice(&s.as_bytes()[..n]);
        self.length += n;
        Ok(())
    }
}

/// Print one line to the kernel log through the root task's Log capability.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        let mut line = $crate::Line::new();
        let _ = writeln!(line, $($arg)*);
        line.flush(abi::ROOT_CAP_LOG);
    }};
}

/// End the machine's run with a status of 0 to 127.
pub fn exit(status: u64) -> ! {
    let _ = invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_EXIT, &[status]);
    loop {
        core::hint::spin_loop();
    }
}

/// Status of a program that panicked.
const STATUS_PANIC: u64 = 101;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("{info}");
    exit(STATUS_PANIC)
}
