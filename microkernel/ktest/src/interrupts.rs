//! Interrupts of devices: message signalled, by IOAPIC pin, spurious, in storms; and NMIs.
//!
//! A write to the address of a message is that message, whoever writes it; the HPET raises pins. Both are device memory,
//! which the Machine capability gives.

use abi::{
    Error, MACHINE_DEVICE, MACHINE_GSI, MACHINE_MSI, MAP_READ, MAP_WRITE, RIGHT_ALL, ROOT_CAP_MACHINE, ROOT_CAP_TASK,
    TASK_MAP,
};
use rt::{invoke, poll};

use crate::code;
use crate::support::{
    Failure, Outcome, Program, Shared, Test, address, bytes, copy, cores, delete, equal, free_bytes, holds, log_end,
    logged, memory, object, pause, refused, sleep_for_ever, slot, thread, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "a_vcpu_and_the_handler_in_its_cspace_do_not_keep_each_other", cores: 1, run: keep_each_other },
    Test { name: "a_message_interrupt_signals_its_target_with_its_badge", cores: 1, run: message },
    Test { name: "a_level_interrupt_is_masked_until_acknowledged", cores: 1, run: level },
    Test { name: "an_edge_interrupt_comes_once", cores: 1, run: edge },
    Test { name: "a_pin_has_one_handler_and_a_handler_one_target", cores: 1, run: owners },
    Test { name: "vectors_without_a_handler_are_ignored", cores: 1, run: spurious },
    Test { name: "a_storm_of_messages_neither_stops_a_core_nor_floods_its_target", cores: 2, run: storm },
    Test { name: "interrupts_in_a_row_are_held_back_and_none_is_lost", cores: 1, run: held_back },
    Test { name: "pokes_are_no_storm", cores: 2, run: pokes },
    Test { name: "nmis_at_any_instruction_and_with_any_gs_base_are_harmless", cores: 1, run: nmis },
];

const HPET: u64 = 0xfed0_0000;
/// A pin that QEMU's HPET can raise and nothing else does.
const GSI: u64 = 20;
const LEVEL: u64 = 1;
/// A time of the HPET that is hours away. (QEMU 10 turns times into signed nanoseconds: the largest would be in its past.)
const NOT_YET: u64 = 1 << 40;

/// Device memory, mapped: its address here.
fn device(physical: u64) -> Result<u64, Error> {
    let range = slot();
    invoke(ROOT_CAP_MACHINE, MACHINE_DEVICE, &[physical, 1, range])?;
    let at = address(4096);
    invoke(ROOT_CAP_TASK, TASK_MAP, &[range, 0, at, 4096, MAP_READ | MAP_WRITE])?;
    Ok(at)
}

fn write32(at: u64, value: u32) {
    // SAFETY: callers pass mapped device registers.
    unsafe { (at as *mut u32).write_volatile(value) };
}

fn write64(at: u64, value: u64) {
    // SAFETY: callers pass mapped device registers.
    unsafe { (at as *mut u64).write_volatile(value) };
}

fn read64(at: u64) -> u64 {
    // SAFETY: callers pass mapped device registers.
    unsafe { (at as *const u64).read_volatile() }
}

/// A handler that `method` of the Machine makes, which signals a new notification with this badge. Word `place` is its slot.
fn handler(method: u64, mut words: [u64; 4], place: usize, badge: u64) -> Result<(u64, u64), Failure> {
    let (handler, notification) = (slot(), object(abi::KIND_NOTIFICATION, 0)?);
    words[place] = handler;
    invoke(ROOT_CAP_MACHINE, method, &words)?;
    invoke(handler, abi::IRQ_BIND, &[copy(notification, RIGHT_ALL, badge)?])?;
    Ok((handler, notification))
}

/// A message handler on a core: (handler, notification, where to write, what).
fn message_handler(core: u64, badge: u64) -> Result<(u64, u64, u64, u32), Failure> {
    let (handler, notification) = handler(MACHINE_MSI, [core, 0, 0, 0], 1, badge)?;
    let [place, data] = invoke(handler, abi::IRQ_MSI, &[])?;
    let page = device(place & !4095)?;
    Ok((handler, notification, page + place % 4096, data as u32))
}

/// A vCPU that has the only capability to the handler that signals it, and is deleted.
fn keep_each_other() -> Outcome {
    for core in 0..cores() {
        let (range, _) = memory(1)?;
        let before = free_bytes();
        let (space, vcpu) = (object(abi::KIND_CSPACE, 16)?, object(abi::KIND_THREAD, 0)?);
        invoke(vcpu, abi::THREAD_CONFIGURE, &[space, ROOT_CAP_TASK, 0, 0, 0])?;
        invoke(vcpu, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 100])?;
        invoke(vcpu, abi::THREAD_VCPU, &[range, 0])?;
        let (handler, _, _, _) = message_handler(core, 1)?;
        invoke(handler, abi::IRQ_BIND, &[vcpu])?;
        invoke(space, abi::CSPACE_PUT, &[handler, 1, RIGHT_ALL, 0])?;
        [handler, space, vcpu].into_iter().try_for_each(delete)?;
        // (The notification that `message_handler` made, and a capability to it, are still there.)
        let notification = 4096;
        holds(wait_for(|| free_bytes() == before - notification))?;
    }
    Ok(())
}

fn comes(notification: u64, badge: u64) -> Outcome {
    let mut saw = 0;
    wait_for(|| {
        let signal = poll(notification, 0);
        saw = signal.map_or(0, |signal| signal.badge);
        signal.is_ok()
    });
    equal(saw, badge)
}

fn message() -> Outcome {
    for core in 0..cores() {
        let (handler, notification, place, data) = message_handler(core, 4)?;
        for _ in 0..10 {
            write32(place, data);
            comes(notification, 4)?;
            refused(poll(notification, 0), Error::Empty)?;
            invoke(handler, abi::IRQ_ACK, &[])?; // allowed, and nothing to do
        }
        delete(handler)?;
        write32(place, data);
        pause();
        refused(poll(notification, 0), Error::Empty)?;
    }
    Ok(())
}

/// The HPET, with timer 1 ready to raise [`GSI`].
struct Hpet(u64);

impl Hpet {
    fn new(level: bool) -> Result<Self, Failure> {
        let at = device(HPET)?;
        write64(at + 0x10, 0);
        holds(read64(at + 0x120) >> (32 + GSI) & 1 == 1)?; // this timer can raise this pin
        write64(at + 0x128, NOT_YET);
        write64(at + 0x120, GSI << 9 | u64::from(level) << 1 | 1 << 2);
        write64(at + 0x10, 1);
        Ok(Self(at))
    }

    /// Raise the interrupt, very soon.
    fn fire(&self) {
        write64(self.0 + 0x128, read64(self.0 + 0xf0) + 10_000);
    }

    /// What a driver does: tell the device that the interrupt was seen.
    fn clear(&self) {
        write64(self.0 + 0x20, 2);
    }

    fn stop(&self) {
        write64(self.0 + 0x120, 0);
        write64(self.0 + 0x10, 0);
        self.clear();
    }
}

fn level() -> Outcome {
    let (handler, notification) = handler(MACHINE_GSI, [GSI, 0, 0, LEVEL], 2, 8)?;
    let hpet = Hpet::new(true)?;
    for _ in 0..3 {
        hpet.fire();
        comes(notification, 8)?;
        // The line stays active, and yet this program runs: it is masked.
        pause();
        refused(poll(notification, 0), Error::Empty)?;
        // Acknowledged too early, it comes again, once for each time.
        for _ in 0..3 {
            invoke(handler, abi::IRQ_ACK, &[])?;
            comes(notification, 8)?;
            refused(poll(notification, 0), Error::Empty)?;
        }
        hpet.clear();
        invoke(handler, abi::IRQ_ACK, &[])?;
        pause();
        refused(poll(notification, 0), Error::Empty)?;
    }
    hpet.stop();
    Ok(())
}

fn edge() -> Outcome {
    let (_, notification) = handler(MACHINE_GSI, [GSI, cores() - 1, 0, 0], 2, 16)?;
    let hpet = Hpet::new(false)?;
    pause();
    refused(poll(notification, 0), Error::Empty)?;
    for _ in 0..5 {
        hpet.fire();
        comes(notification, 16)?;
        pause();
        refused(poll(notification, 0), Error::Empty)?;
    }
    hpet.stop();
    Ok(())
}

fn owners() -> Outcome {
    let (first, notification) = handler(MACHINE_GSI, [GSI, 0, 0, 0], 2, 1)?;
    for core in 0..cores() {
        refused(invoke(ROOT_CAP_MACHINE, MACHINE_GSI, &[GSI, core, slot(), 0]), Error::Busy)?;
    }
    refused(invoke(ROOT_CAP_MACHINE, MACHINE_GSI, &[100_000, 0, slot(), 0]), Error::BadArgument)?;
    refused(invoke(ROOT_CAP_MACHINE, MACHINE_GSI, &[GSI, cores(), slot(), 0]), Error::BadArgument)?;
    refused(invoke(first, abi::IRQ_MSI, &[]), Error::BadState)?;
    // Bound anew, it signals the new target and no other.
    let other = object(abi::KIND_NOTIFICATION, 0)?;
    invoke(first, abi::IRQ_BIND, &[copy(other, RIGHT_ALL, 2)?])?;
    refused(invoke(first, abi::IRQ_BIND, &[copy(other, abi::RIGHT_READ, 2)?]), Error::NoRights)?;
    refused(invoke(first, abi::IRQ_BIND, &[abi::ROOT_CAP_THREAD]), Error::WrongType)?;
    let hpet = Hpet::new(false)?;
    hpet.fire();
    comes(other, 2)?;
    refused(poll(notification, 0), Error::Empty)?;
    hpet.stop();
    delete(first)?;
    handler(MACHINE_GSI, [GSI, 0, 0, 0], 2, 1).map(drop)
}

/// Where a message to a core is written that no handler has asked for: its vector, with the delivery mode from bit 8 on.
fn messages_to(core: u64) -> Result<u64, Failure> {
    let (handler, _, place, _) = message_handler(core, 1)?;
    delete(handler)?;
    Ok(place)
}

fn spurious() -> Outcome {
    for core in 0..cores() {
        let place = messages_to(core)?;
        for vector in 0x30..0xef {
            write32(place, vector);
        }
    }
    // Each was ended at its APIC: those of lower priority still arrive.
    for core in 0..cores() {
        let (_, notification, place, data) = message_handler(core, 1)?;
        write32(place, data);
        comes(notification, 1)?;
    }
    Ok(())
}

static PLACE: Shared = Shared::new();
static WRITTEN: Shared = Shared::new();
static ENOUGH: Shared = Shared::new();

extern "C" fn writer(data: u64) -> ! {
    while ENOUGH.get() == 0 {
        write32(PLACE.get(), data as u32);
        WRITTEN.set(WRITTEN.get() + 1);
    }
    ENOUGH.set(2);
    sleep_for_ever()
}

fn storm() -> Outcome {
    let (_, notification, place, data) = message_handler(0, 32)?;
    PLACE.set(place);
    WRITTEN.set(0);
    ENOUGH.set(0);
    thread(1, 50, 0, writer, u64::from(data))?;
    // This thread, on the core that is interrupted, goes on: it takes signals, each for all interrupts since the last.
    let (mut turns, mut signals) = (0u64, 0u64);
    holds(wait_for(|| {
        turns += 1;
        signals += u64::from(poll(notification, 0).is_ok_and(|signal| signal.badge == 32));
        turns > 10_000 && signals > 10
    }))?;
    ENOUGH.set(1);
    holds(ENOUGH.await_value(2))?;
    holds(signals <= WRITTEN.get())?;
    pause();
    let _ = poll(notification, 0);
    refused(poll(notification, 0), Error::Empty)?;
    write32(place, data);
    comes(notification, 32)
}

fn held_back() -> Outcome {
    let (_, notification, place, data) = message_handler(0, 2)?;
    let (mut signals, mut in_a_row, mut longest) = (0, 0, 0);
    // To this thread's own core: each comes at once, unless it is held.
    holds(wait_for(|| {
        write32(place, data);
        if poll(notification, 0).is_ok() {
            signals += 1;
            in_a_row = 0;
        } else {
            in_a_row += 1;
            longest = longest.max(in_a_row);
        }
        signals > 0 && longest > 20
    }))?;
    // (It is told once for each core; the test before this one may have been first.)
    let mut position = 0;
    holds(logged(&mut position, "core 0: a storm of interrupts"))?;
    pause();
    let _ = poll(notification, 0);
    for _ in 0..3 {
        write32(place, data);
        comes(notification, 2)?;
        pause();
    }
    Ok(())
}

/// The kernel's interrupt by which a core tells another to look for work.
const POKE: u64 = 0xf1;
/// A vector of devices.
const DEVICE: u64 = 0xe0;

fn pokes() -> Outcome {
    PLACE.set(messages_to(1)?);
    let mut position = log_end();
    // On core 1, as a storm is told once for each core, and other tests have them on core 0.
    let mut storm = || logged(&mut position, "core 1: a storm of interrupts");
    for vector in [POKE, DEVICE] {
        WRITTEN.set(0);
        ENOUGH.set(0);
        thread(1, 50, 0, writer, vector)?;
        if vector == POKE {
            holds(wait_for(|| WRITTEN.get() > 20_000))?;
            holds(!storm())?;
        } else {
            holds(wait_for(&mut storm))?;
        }
        ENOUGH.set(1);
        holds(ENOUGH.await_value(2))?;
    }
    Ok(())
}

// Has a GS base as the kernel's, and enters the kernel in every turn.
code!(
    CALLS_WITH_GS,
    "mov rbp, 0xffff800000000000",
    "wrgsbase rbp",
    "2:",
    "mov eax, 99",
    "syscall",
    "inc qword ptr [0x800000]",
    "rdgsbase rbx",
    "cmp rbx, rbp",
    "je 2b",
    "ud2",
);

fn nmis() -> Outcome {
    const NMI: u32 = 0x400;
    let mut places = [0; 4];
    for (core, place) in (0..cores()).zip(&mut places) {
        *place = messages_to(core)?;
    }
    let mut programs = [const { None }; 3];
    for (core, program) in (1..cores()).zip(&mut programs) {
        *program = Some(Program::start_on(core, bytes(&raw const CALLS_WITH_GS))?);
    }
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    // SAFETY: this program does not use GS.
    unsafe { core::arch::asm!("wrgsbase {}", in(reg) 0xffff_8000_0000_0000u64) };
    for place in places.iter().filter(|&&place| place != 0).cycle().take(5000) {
        write32(*place, NMI);
        refused(poll(notification, 0), Error::Empty)?;
    }
    let base: u64;
    // SAFETY: this program does not use GS.
    unsafe { core::arch::asm!("rdgsbase {}", "wrgsbase {}", out(reg) base, in(reg) 0u64) };
    equal(base, 0xffff_8000_0000_0000)?;
    for program in programs.iter().flatten() {
        let turns = program.word(0);
        holds(wait_for(|| program.word(0) > turns + 100))?; // it still runs, and its base is its own
        refused(poll(program.endpoint, 0), Error::Empty)?;
    }
    Ok(())
}
