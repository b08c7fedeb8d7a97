//! Instruction counts of kernel operations: each one runs between two window markers, which the noise meter counts.
//!
//! The command line word `kbench` runs this instead of the tests. Window 0x10 is empty: its cost is taken off the others.
//! Operations that need more cores than there are are left out.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::{Error, MAP_READ, RESUME_USER, RIGHT_ALL, ROOT_CAP_CSPACE, SYS_VCPU_RESUME, TASK_MAP, TASK_UNMAP, VcpuState};
use rt::{call, invoke, println, receive, reply_receive, send};

use crate::decoupled::Decoupled;
use crate::support::{
    self, CODE, ENDPOINT, Outcome, Shared, copy, delete, foreign_server, object, slot, start_in, thread, user_task,
};
use crate::vcpus::{self, Vcpu};

/// Windows of each operation; the median counts.
const ROUNDS: u64 = 200;

/// `nopl 0x4e5157LL(%rax)` begins window LL, `nopl 0x4e5177LL(%rax)` ends it.
macro_rules! window {
    ($id:literal, $work:expr) => {{
        let start = support::tsc();
        // SAFETY: a long NOP.
        unsafe { asm!(concat!("nop dword ptr [rax + 0x4e5157", $id, "]")) };
        let result = $work;
        // SAFETY: a long NOP.
        unsafe { asm!(concat!("nop dword ptr [rax + 0x4e5177", $id, "]")) };
        record(support::tsc() - start);
        result
    }};
}

/// Durations of the windows of one operation, in TSC ticks.
static TIMES: [AtomicU64; ROUNDS as usize] = [const { AtomicU64::new(0) }; ROUNDS as usize];
static TIMED: AtomicUsize = AtomicUsize::new(0);

fn record(ticks: u64) {
    if let Some(slot) = TIMES.get(TIMED.fetch_add(1, Ordering::Relaxed)) {
        slot.store(ticks, Ordering::Relaxed);
    }
}

/// Median duration of what was recorded, in nanoseconds.
fn median_ns() -> u64 {
    let mut times = [0; ROUNDS as usize];
    let count = TIMED.swap(0, Ordering::Relaxed).min(times.len());
    for (time, slot) in times.iter_mut().zip(&TIMES) {
        *time = slot.load(Ordering::Relaxed);
    }
    times[..count].sort_unstable();
    times[..count].get(count / 2).map_or(0, |ticks| ticks * 1_000_000 / (support::tsc_hz() / 1000))
}

type Bench = (&'static str, fn() -> Outcome);

const ALL: &[Bench] = &[
    ("10 empty", empty),
    ("11 call+reply, same address space", call_same),
    ("12 call+reply, across address spaces", call_across),
    ("13 signal+wait, no switch", signal_wait),
    ("14 trap, handler, resume, across address spaces", trap),
    ("15 map+unmap of one page", map_unmap),
    ("16 capability copy+delete", copy_delete),
    ("17 retype+delete of an endpoint", retype_delete),
    ("18 call+reply, across address spaces, 4 words", call_4_words),
    ("19 call+reply, across address spaces, 16 words", call_16_words),
    ("1a vCPU: system call of the user context to Linux's entry", || vcpus::on_vcpu(upcall)),
    ("1b vCPU: resume to the user context", || vcpus::on_vcpu(upcall)),
    ("1c decoupled: trap, and answer", || vcpus::on_vcpu(forwarded)),
];

/// Run all; false where one failed.
pub fn run() -> bool {
    let mut good = true;
    for (name, bench) in ALL {
        if name.contains("decoupled") && support::cores() < 2 {
            continue;
        }
        support::begin();
        match bench() {
            Ok(()) => println!("kbench {name}: {} ns", median_ns()),
            Err(failure) => {
                good = false;
                println!("kbench {name}: failed at {failure}");
            }
        }
        support::clean_up();
    }
    good
}

fn empty() -> Outcome {
    for _ in 0..ROUNDS {
        window!("10", ());
    }
    Ok(())
}

static REPLY: Shared = Shared::new();

extern "C" fn echo(_: u64) -> ! {
    let (endpoint, reply) = (ENDPOINT.get(), REPLY.get());
    let mut message = receive(endpoint, reply);
    while message.is_ok() {
        message = reply_receive(endpoint, reply, 0, [0; 4], 0);
    }
    loop {
        core::hint::spin_loop();
    }
}

fn rendezvous() -> Result<(u64, u64), Error> {
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    ENDPOINT.set(endpoint);
    REPLY.set(reply);
    Ok((endpoint, reply))
}

fn call_same() -> Outcome {
    let (endpoint, _) = rendezvous()?;
    thread(0, 201, 0, echo, 0)?;
    for _ in 0..ROUNDS {
        window!("11", call(endpoint, 0, [0; 4], 0))?;
    }
    Ok(())
}

/// Calls with `words` words to a thread of another Task, which answers with as many; `windowed` makes them.
fn across(words: u64, windowed: impl Fn(u64) -> Result<(), Error>) -> Outcome {
    let (endpoint, reply) = rendezvous()?;
    foreign_server(endpoint, reply, words, 201)?;
    for _ in 0..ROUNDS {
        windowed(endpoint)?;
    }
    Ok(())
}

fn call_across() -> Outcome {
    across(0, |endpoint| window!("12", call(endpoint, 0, [0; 4], 0)).map(drop))
}

fn call_4_words() -> Outcome {
    across(4, |endpoint| window!("18", call(endpoint, 0, [1, 2, 3, 4], 4)).map(drop))
}

fn call_16_words() -> Outcome {
    across(16, |endpoint| window!("19", call(endpoint, 0, [1, 2, 3, 4], 16)).map(drop))
}

fn signal_wait() -> Outcome {
    let badged = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    for _ in 0..ROUNDS {
        window!("13", send(badged, 0, [0; 4], 0).and_then(|()| receive(badged, 0)))?;
    }
    Ok(())
}

fn trap() -> Outcome {
    let (endpoint, reply) = rendezvous()?;
    // ud2; the answer moves it back to the start
    let (task, _, _) = user_task(&[0x0f, 0x0b])?;
    start_in(task, 0, 150, endpoint)?;
    receive(endpoint, reply)?;
    for _ in 0..ROUNDS {
        window!("14", reply_receive(endpoint, reply, 0, [CODE, 0, 0, 0], 1))?;
    }
    Ok(())
}

fn map_unmap() -> Outcome {
    let task = object(abi::KIND_TASK, 0)?;
    let range = object(abi::KIND_RANGE, 1)?;
    invoke(task, TASK_MAP, &[range, 0, 0x5000, 4096, MAP_READ])?;
    for _ in 0..ROUNDS {
        window!("15", {
            invoke(task, TASK_MAP, &[range, 0, 0x6000, 4096, MAP_READ])
                .and_then(|_| invoke(task, TASK_UNMAP, &[0x6000, 4096]))
        })?;
    }
    Ok(())
}

fn copy_delete() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let to = slot();
    for _ in 0..ROUNDS {
        window!("16", {
            invoke(ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[notification, to, RIGHT_ALL, 0]).and_then(|_| delete(to))
        })?;
    }
    Ok(())
}

fn retype_delete() -> Outcome {
    let to = slot();
    for _ in 0..ROUNDS {
        window!("17", {
            invoke(support::POOL, abi::UNTYPED_RETYPE, &[abi::KIND_ENDPOINT, 0, to]).and_then(|_| delete(to))
        })?;
    }
    Ok(())
}

global_asm!(
    // void bench_run_user(VcpuState *): runs the user context until its next trap. Windows: 1b from before the system call,
    // 1a up to the entry point.
    ".global bench_run_user",
    "bench_run_user:",
    "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15",
    "mov [rdi + {entry_sp}], rsp",
    "mov eax, {resume}",
    "mov edi, {user}",
    "nop dword ptr [rax + 0x4e51571b]",
    "syscall",
    "ud2", // refused
    ".global bench_entry",
    "bench_entry:",
    "nop dword ptr [rax + 0x4e51771a]",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
    "ret",
    entry_sp = const offset_of!(VcpuState, entry_sp),
    resume = const SYS_VCPU_RESUME,
    user = const RESUME_USER,
);

unsafe extern "C" {
    fn bench_run_user(state: *mut VcpuState);
    fn bench_entry();
}

/// nopl 0x4e51771b(%rax); nopl 0x4e51571a(%rax); syscall
const MARKED_CALL: [u8; 16] =
    [0x0f, 0x1f, 0x80, 0x1b, 0x77, 0x51, 0x4e, 0x0f, 0x1f, 0x80, 0x1a, 0x57, 0x51, 0x4e, 0x0f, 0x05];

fn upcall(vcpu: &Vcpu) -> Outcome {
    vcpu.context(&MARKED_CALL)?;
    let old = vcpu.state().entry_ip;
    vcpu.state().entry_ip = bench_entry as *const () as u64;
    for _ in 0..ROUNDS {
        vcpu.state().frame.regs.rip = CODE;
        let start = support::tsc();
        // SAFETY: entry_ip leads back.
        unsafe { bench_run_user(vcpu.state()) };
        record(support::tsc() - start);
    }
    vcpu.state().entry_ip = old;
    Ok(())
}

/// 1: nopl 0x4e51571c(%rax); syscall; nopl 0x4e51771c(%rax); jmp 1b
const MARKED_FORWARDED: [u8; 18] =
    [0x0f, 0x1f, 0x80, 0x1c, 0x57, 0x51, 0x4e, 0x0f, 0x05, 0x0f, 0x1f, 0x80, 0x1c, 0x77, 0x51, 0x4e, 0xeb, 0xee];

/// The vCPU looks for traps of a decoupled thread, whose doorbell it is, as Linux does.
fn forwarded(vcpu: &Vcpu) -> Outcome {
    let decoupled = Decoupled::with_doorbell(&MARKED_FORWARDED, copy(vcpu.slot, RIGHT_ALL, 1)?)?;
    decoupled.run()?;
    for _ in 0..ROUNDS {
        let start = support::tsc();
        while vcpu.take_pending() == 0 {
            core::hint::spin_loop();
        }
        decoupled.answer(0)?;
        record(support::tsc() - start);
    }
    Ok(())
}
