//! One random system call: mostly one that makes sense, with something in it that does not.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{
    Error, MAP_ITEMS, MessagePage, SYS_CALL, SYS_RECV, SYS_REPLY_RECV, SYS_SEND, SYS_VCPU_RESUME, TAG_POLL, VcpuState,
};
use rt::raw;

use crate::playground::{self, CODE, DATA, PROGRAMS, REGIONS, Region, SHARED_AT, SHARED_PAGES, SLOTS, program, region};
use crate::random::Random;

/// What an argument of a method is.
#[derive(Clone, Copy)]
enum Arg {
    /// A slot with a capability of this kind, or some other one.
    Of(u64),
    /// Any slot.
    Slot,
    /// Mostly a slot of the region that the first argument's slot is in, so that regions keep their kinds.
    Beside,
    /// Mostly a slot of the region for the kind that the first argument is.
    ForKind,
    Address,
    Size,
    Offset,
    MapFlags,
    Kind,
    Count,
    Rights,
    Badge,
    Program,
    Stack,
    Priority,
    Deadline,
    Core,
    Interrupt,
    Physical,
    Number,
}
use Arg::*;

/// A method, what it is called on, its arguments, and how often it is called.
struct Method {
    on: u64,
    label: u64,
    weight: u64,
    arguments: &'static [Arg],
}

const fn method(on: u64, label: u64, weight: u64, arguments: &'static [Arg]) -> Method {
    Method { on, label, weight, arguments }
}

const METHODS: &[Method] = &[
    method(abi::KIND_UNTYPED, abi::UNTYPED_RETYPE, 14, &[Kind, Count, ForKind]),
    method(abi::KIND_UNTYPED, abi::UNTYPED_FREE, 1, &[]),
    method(abi::KIND_CSPACE, abi::CSPACE_COPY, 12, &[Slot, Beside, Rights, Badge]),
    method(abi::KIND_CSPACE, abi::CSPACE_PUT, 5, &[Slot, Beside, Rights, Badge]),
    method(abi::KIND_CSPACE, abi::CSPACE_MOVE, 5, &[Slot, Beside]),
    method(abi::KIND_CSPACE, abi::CSPACE_DELETE, 6, &[Slot]),
    method(abi::KIND_CSPACE, abi::CSPACE_REVOKE, 1, &[Slot]),
    method(abi::KIND_TASK, abi::TASK_MAP, 12, &[Of(abi::KIND_RANGE), Offset, Address, Size, MapFlags]),
    method(abi::KIND_TASK, abi::TASK_UNMAP, 6, &[Address, Size]),
    method(abi::KIND_THREAD, abi::OBJECT_NAME, 1, &[Number, Number]),
    method(
        abi::KIND_THREAD,
        abi::THREAD_CONFIGURE,
        4,
        &[Of(abi::KIND_CSPACE), Of(abi::KIND_TASK), Of(abi::KIND_RANGE), Offset, Of(abi::KIND_ENDPOINT)],
    ),
    method(abi::KIND_THREAD, abi::THREAD_BIND, 4, &[Of(abi::KIND_CPU), Priority]),
    method(abi::KIND_THREAD, abi::THREAD_START, 4, &[Program, Stack, Number]),
    method(abi::KIND_THREAD, abi::THREAD_STOP, 5, &[]),
    method(abi::KIND_THREAD, abi::THREAD_RESUME, 6, &[]),
    method(abi::KIND_THREAD, abi::THREAD_VCPU, 4, &[Of(abi::KIND_RANGE), Offset]),
    method(abi::KIND_THREAD, abi::THREAD_TIMER, 4, &[Deadline]),
    method(abi::KIND_THREAD, abi::THREAD_DECOUPLE, 8, &[Of(abi::KIND_RANGE), Offset, Of(abi::KIND_NOTIFICATION)]),
    method(abi::KIND_THREAD, abi::THREAD_RUN, 5, &[Of(abi::KIND_TASK)]),
    method(abi::KIND_THREAD, abi::THREAD_WAKE, 4, &[]),
    method(abi::KIND_THREAD, abi::THREAD_CANCEL, 5, &[]),
    method(abi::KIND_IRQ_HANDLER, abi::IRQ_BIND, 2, &[Of(abi::KIND_NOTIFICATION)]),
    method(abi::KIND_IRQ_HANDLER, abi::IRQ_ACK, 2, &[]),
    method(abi::KIND_IRQ_HANDLER, abi::IRQ_MSI, 1, &[]),
    method(abi::KIND_MACHINE, abi::MACHINE_MSI, 2, &[Core, Slot]),
    method(abi::KIND_MACHINE, abi::MACHINE_GSI, 1, &[Interrupt, Core, Slot, Number]),
    method(abi::KIND_MACHINE, abi::MACHINE_DEVICE, 1, &[Physical, Count, Slot]),
    method(abi::KIND_LOG, abi::LOG_READ, 1, &[Number]),
    method(abi::KIND_RANGE, abi::RANGE_ADDRESS, 1, &[]),
    method(abi::KIND_CPU, abi::CPU_ID, 1, &[]),
];
/// How often each method succeeded.
static SUCCEEDED: [AtomicU64; METHODS.len()] = [const { AtomicU64::new(0) }; METHODS.len()];

/// Kind, label and successes of each method.
pub fn successes() -> impl Iterator<Item = (u64, u64, u64)> {
    METHODS.iter().zip(&SUCCEEDED).map(|(method, count)| (method.on, method.label, count.load(Ordering::Relaxed)))
}

const METHODS_WEIGHT: u64 = {
    let (mut sum, mut i) = (0, 0);
    while i < METHODS.len() {
        sum += METHODS[i].weight;
        i += 1;
    }
    sum
};

/// A slot that probably has a capability of this kind.
fn of(random: &mut Random, kind: u64) -> u64 {
    if random.once_in(12) {
        return slot(random);
    }
    within(random, region(kind))
}

fn within(random: &mut Random, region: &Region) -> u64 {
    region.first + random.below(region.count)
}

/// A slot that fits what the first argument is, if any does, and one does not want another.
fn fitting(random: &mut Random, region: Option<&Region>) -> u64 {
    match region {
        Some(region) if !random.once_in(12) => within(random, region),
        _ => slot(random),
    }
}

fn slot(random: &mut Random) -> u64 {
    if random.once_in(100) { random.wild() } else { random.below(SLOTS + 2) }
}

/// An argument for a method whose first one is `first`.
fn argument(random: &mut Random, arg: Arg, first: u64) -> u64 {
    if random.once_in(24) {
        return random.wild();
    }
    match arg {
        Of(kind) => of(random, kind),
        Slot => slot(random),
        Beside => fitting(random, REGIONS.iter().find(|r| (r.first..r.first + r.count).contains(&first))),
        ForKind => fitting(random, REGIONS.iter().find(|r| r.kind == first)),
        Address => match random.below(8) {
            0 => CODE,
            1 => 0x90_0000,
            2 => random.below(1 << 35) << 12,
            3 => random.below(16) << 21,
            _ => DATA + random.below(64) * 4096,
        },
        Size => random.pick(&[4096, 4096, 8192, 0x10_000, 0x20_0000, 0x20_1000, 0x40_0000]),
        Offset => random.below(20) * 4096,
        MapFlags => random.below(8) | 1,
        Kind => random.below(12),
        Count => {
            if random.once_in(50) {
                random.pick(&[512, 600])
            } else {
                random.pick(&[1, 1, 2, 5, 9, 16, 40, 64])
            }
        }
        Rights => random.pick(&[abi::RIGHT_ALL, abi::RIGHT_ALL, abi::RIGHT_ALL, 1, 2, 3, 7, 15, 0]),
        Badge => random.pick(&[0, 0, 1, 2, 1 << 62, 0xffff]),
        Program => {
            if random.once_in(6) {
                random.wild()
            } else {
                program(random.below(PROGRAMS))
            }
        }
        Stack => DATA + random.below(5) * 0x800,
        Priority => playground::priority(random),
        Deadline => match random.below(3) {
            0 => 0,
            1 => tsc(),
            _ => tsc() + random.below(1 << 22),
        },
        Core => random.below(5),
        Interrupt => random.below(30),
        // A hole of the PCI window, and RAM, which must be refused. (A device's registers would be a right to do harm.)
        Physical => random.pick(&[0xd000_0000, 0xd010_0000, 0, 0x10_0000, 0x100_0000, 0xd000_0001]),
        Number => random.next(),
    }
}

fn tsc() -> u64 {
    // SAFETY: RDTSC is always there.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Make one call.
pub fn one(random: &mut Random, page: *mut MessagePage) -> Result<(), Error> {
    if random.once_in(3) {
        disturb(random);
    }
    match random.below(16) {
        0 => nonsense(random, page),
        1..=4 => message(random, page),
        _ => invoke(random, page),
    }
}

/// A word of the message page.
fn put(page: *mut MessagePage, index: usize, value: u64) {
    // SAFETY: the worker's own message page.
    unsafe { (&raw mut (*page).words[index]).write_volatile(value) };
}

fn invoke(random: &mut Random, page: *mut MessagePage) -> Result<(), Error> {
    let mut chosen = random.below(METHODS_WEIGHT);
    let mut all = METHODS.iter().zip(&SUCCEEDED);
    let (method, succeeded) = loop {
        let next = all.next().expect("the weights add up");
        if chosen < next.0.weight {
            break next;
        }
        chosen -= next.0.weight;
    };
    let mut words = [0; 5];
    for (i, &arg) in method.arguments.iter().enumerate() {
        words[i] = argument(random, arg, words[0]);
    }
    put(page, 4, words[4]);
    let handle = of(random, method.on);
    let label = if random.once_in(40) { random.pick(METHODS_OF_ALL) } else { method.label };
    let tag = abi::tag(label, method.arguments.len() as u64, 0);
    call(SYS_CALL, handle, tag, [words[0], words[1], words[2], words[3]], 0)?;
    if label == method.label {
        succeeded.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Labels to try where they do not belong. (Not the one that ends the run.)
const METHODS_OF_ALL: &[u64] =
    &[0, 1, 2, 3, 16, 17, 18, 32, 33, 48, 50, 53, 55, 56, 64, 80, 96, 97, 113, 128, 144, 0xffff_ffff];

/// Messages and signals. Few of them wait: who waits makes no calls.
fn message(random: &mut Random, page: *mut MessagePage) -> Result<(), Error> {
    let place = match random.below(16) {
        0 => abi::KIND_THREAD,
        1..=4 => abi::KIND_NOTIFICATION,
        _ => abi::KIND_ENDPOINT,
    };
    let handle = of(random, place);
    let (length, caps) = (random.pick(&[0, 1, 2, 4, 5, 16, 64]), random.pick(&[0, 0, 1]));
    // One in sixteen is longer than a message can be.
    let (length, caps) = if random.once_in(16) { (random.pick(&[65, 255]), caps + 1) } else { (length, caps) };
    let waits = random.once_in(60);
    let tag = abi::tag(random.next(), length, caps) | if waits { 0 } else { TAG_POLL };
    for index in 4..8 {
        put(page, index, random.next());
    }
    // SAFETY: the worker's own message page.
    unsafe { (&raw mut (*page).cap).write_volatile(slot(random)) };
    let words = [random.next(), random.next(), random.next(), random.next()];
    let reply = if random.once_in(3) { 0 } else { of(random, abi::KIND_REPLY) };
    let number = match (random.below(8), waits) {
        (0..=3, _) => SYS_SEND,
        (4, true) => SYS_CALL,
        (5, true) => SYS_REPLY_RECV,
        // Answers, and then waits only where the Endpoint is none.
        (5, false) => return call(SYS_REPLY_RECV, of(random, abi::KIND_NOTIFICATION), tag, words, reply),
        _ => SYS_RECV,
    };
    call(number, handle, tag, words, reply)
}

/// All registers at random.
fn nonsense(random: &mut Random, page: *mut MessagePage) -> Result<(), Error> {
    put(page, 4, random.wild());
    let number = random.pick(&[SYS_CALL, SYS_CALL, SYS_SEND, SYS_RECV, SYS_VCPU_RESUME, 5, 99, u64::MAX, 1 << 32]);
    let tag = if number == SYS_RECV || number == SYS_SEND { random.wild() | TAG_POLL } else { random.wild() };
    let handle = if random.once_in(2) { slot(random) } else { random.wild() };
    call(number, handle, tag, [random.wild(), random.wild(), random.wild(), random.wild()], random.wild())
}

fn call(number: u64, handle: u64, tag: u64, words: [u64; 4], reply: u64) -> Result<(), Error> {
    if tag & 0xffff_ffff == abi::MACHINE_EXIT {
        return Ok(()); // (once in 2^32 of the random labels)
    }
    raw(number, handle, tag, words, reply).map(drop)
}

/// Write something into a page that a vCPU or decoupled thread shares with the kernel. (`pending` is only ever cleared:
/// the self-check takes signals in it for the kernel's own.)
fn disturb(random: &mut Random) {
    let page = SHARED_AT + random.below(SHARED_PAGES) * 4096;
    let (vcpu, frame) = (page as *mut VcpuState, page as *mut abi::DecoupledFrame);
    // SAFETY: shared memory of this program; only stores to plain fields and atomics, which others write too.
    unsafe {
        match random.below(9) {
            0 => (&raw mut (*vcpu).frame.regs).write_volatile(playground::regs(random)),
            1 => {
                let word = (&raw mut (*vcpu).frame.regs).cast::<u64>().add(random.below(27) as usize);
                word.write_volatile(random.wild());
            }
            2 => (*vcpu).flags.store(random.below(4) as u32, Ordering::Relaxed),
            3 => {
                (*vcpu).pending.swap(0, Ordering::SeqCst);
            }
            // (A vCPU's entry, where a decoupled frame has its state.)
            4 if page < SHARED_AT + 4 * 4096 => {
                (&raw mut (*vcpu).entry_ip).write_volatile(program(random.pick(&[3, 3, 3, 4, 5, 0])));
                (&raw mut (*vcpu).user_task).write_volatile(of(random, abi::KIND_TASK));
            }
            5 if page < SHARED_AT + 4 * 4096 => {
                items(random, &raw mut (*vcpu).items);
                (&raw mut (*vcpu).item_count).write_volatile(random.below(MAP_ITEMS as u64 + 2));
            }
            6 => {
                items(random, &raw mut (*frame).items);
                (&raw mut (*frame).item_count).write_volatile(random.below(3));
            }
            7 => (&raw mut (*frame).xsave).cast::<u64>().add(random.below(384) as usize).write_volatile(random.wild()),
            _ if page >= SHARED_AT + 4 * 4096 => {
                let xstate = if random.once_in(8) { abi::ANSWER_XSTATE } else { 0 };
                let detach = if random.once_in(3) { abi::ANSWER_DETACH } else { 0 };
                (&raw mut (*frame).answer).write_volatile(xstate | detach);
                let state = if random.once_in(10) { random.below(5) as u32 } else { abi::FRAME_ANSWERED };
                (*frame).state.store(state, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

unsafe fn items(random: &mut Random, items: *mut [abi::MapItem; MAP_ITEMS]) {
    for i in 0..2 {
        let item = abi::MapItem {
            address: argument(random, Address, 0),
            offset: argument(random, Offset, 0),
            size: argument(random, Size, 0),
            flags: random.below(16),
        };
        // SAFETY: by the caller's promise, shared memory.
        unsafe { (&raw mut (*items)[i]).write_volatile(item) };
    }
}
