//! Priorities, stopping, and silence.

use abi::{Error, RIGHT_ALL, RIGHT_WRITE, THREAD_RESUME, THREAD_STOP};
use rt::{invoke, poll, receive, send};

use crate::code;
use crate::support::{
    Entry, Failure, Outcome, Program, Race, Shared, Test, bytes, copy, cores, delete, equal, free_bytes, holds, memory,
    object, pause, refused, reuse_slots, revoke, slot, thread, tsc, tsc_hz, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "a_thread_becomes_one_thing_though_two_cores_ask", cores: 2, run: one_thing },
    Test { name: "a_lower_priority_waits_for_a_higher_one", cores: 1, run: strict },
    Test { name: "equal_priorities_share_a_core", cores: 2, run: share },
    Test { name: "a_stopped_thread_stands_still_until_resumed", cores: 2, run: stop },
    Test { name: "deleting_a_running_thread_on_another_core_ends_it", cores: 2, run: delete_running },
    Test { name: "a_deleted_thread_that_never_got_the_core_gives_its_memory_back", cores: 2, run: delete_ready },
    Test { name: "a_thread_deleted_while_it_is_started_gives_its_memory_back", cores: 2, run: delete_starting },
    Test { name: "a_thread_cannot_be_started_twice_or_rebound", cores: 1, run: states },
    Test { name: "priority_and_core_of_a_waiting_thread_are_fixed", cores: 1, run: fixed },
    Test { name: "a_thread_can_stop_itself", cores: 1, run: stop_self },
    Test { name: "only_a_cpu_capability_lets_a_thread_run_on_its_core", cores: 1, run: cpu_capability },
    Test { name: "a_cpu_capability_gives_no_priority_above_its_ceiling", cores: 1, run: ceiling },
    Test { name: "a_ceiling_falls_with_a_copy_and_never_rises", cores: 1, run: ceilings_fall },
    Test { name: "revoking_a_cpu_capability_ends_who_runs_by_it", cores: 2, run: revoked_cpu },
    Test { name: "revoking_a_cpu_capability_ends_who_waits_or_has_not_begun", cores: 1, run: revoked_cpu_of_idle },
    Test { name: "a_core_with_one_runnable_thread_has_no_interrupt_in_ten_seconds", cores: 1, run: silence },
    Test { name: "work_in_other_address_spaces_does_not_interrupt_a_core", cores: 2, run: foreign_spaces },
];

static COUNT: [Shared; 2] = [const { Shared::new() }; 2];

extern "C" fn count(index: u64) -> ! {
    let counter = &COUNT[index as usize];
    loop {
        counter.set(counter.get() + 1);
    }
}

/// Counts, and tells so now and then.
extern "C" fn count_and_tell(bell: u64) -> ! {
    loop {
        COUNT[0].set(COUNT[0].get() + 1);
        let _ = send(bell, 0, [0; 4], 0);
    }
}

fn strict() -> Outcome {
    COUNT[0].set(0);
    let bell = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    thread(0, 50, 0, count_and_tell, bell)?;
    let end = tsc() + tsc_hz() / 20;
    while tsc() < end {}
    equal(COUNT[0].get(), 0)?;
    // It has the core while this thread waits, and no longer.
    for round in 1..=20 {
        receive(bell, 0)?;
        equal(COUNT[0].get(), round)?;
        pause();
        equal(COUNT[0].get(), round)?;
    }
    Ok(())
}

fn share() -> Outcome {
    COUNT[0].set(0);
    COUNT[1].set(0);
    thread(1, 50, 0, count, 0)?;
    thread(1, 50, 0, count, 1)?;
    equal(u64::from(wait_for(|| COUNT[0].get() > 1000 && COUNT[1].get() > 1000)), 1)?;
    let before = [COUNT[0].get(), COUNT[1].get()];
    equal(u64::from(wait_for(|| COUNT[0].get() > before[0] + 1000 && COUNT[1].get() > before[1] + 1000)), 1)
}

/// A thread counts on core 1; one of lower priority does not get there.
fn counter_on_core_1() -> Result<u64, Failure> {
    COUNT[0].set(0);
    COUNT[1].set(0);
    let counter = thread(1, 50, 0, count, 0)?;
    holds(wait_for(|| COUNT[0].get() > 0))?;
    thread(1, 40, 0, count, 1)?;
    Ok(counter)
}

/// The counter no longer has core 1, since the thread of lower priority has it; and while that counts on, it does not.
fn counter_stands_still() -> Outcome {
    let begin = COUNT[1].get();
    holds(wait_for(|| COUNT[1].get() > begin))?;
    let still = COUNT[0].get();
    holds(wait_for(|| COUNT[1].get() > begin + 100_000))?;
    equal(COUNT[0].get(), still)
}

fn stop() -> Outcome {
    let counter = counter_on_core_1()?;
    pause();
    equal(COUNT[1].get(), 0)?;
    for _ in 0..5 {
        invoke(counter, THREAD_STOP, &[])?;
        counter_stands_still()?;
        let still = COUNT[0].get();
        invoke(counter, THREAD_RESUME, &[])?;
        holds(wait_for(|| COUNT[0].get() > still + 1000))?;
    }
    Ok(())
}

fn delete_ready() -> Outcome {
    COUNT[0].set(0);
    thread(1, 50, 0, count, 0)?;
    equal(u64::from(wait_for(|| COUNT[0].get() > 0)), 1)?;
    let before = free_bytes();
    let (slot, range) = (object(abi::KIND_THREAD, 0)?, object(abi::KIND_RANGE, 1)?);
    invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 0, 0])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + 1, 49])?;
    invoke(slot, abi::THREAD_START, &[count as *const () as u64, 0, 1])?;
    delete(slot)?;
    delete(range)?;
    equal(free_bytes(), before)
}

/// Starts THREAD in each round.
extern "C" fn starts(_: u64) -> ! {
    loop {
        let round = ROUND.get();
        if round == DID.get() / 2 {
            core::hint::spin_loop();
            continue;
        }
        let done = invoke(THREAD.get(), abi::THREAD_START, &[0, 0, 0]).is_ok();
        DID.set(round * 2 + u64::from(done));
    }
}

fn delete_starting() -> Outcome {
    ROUND.set(0);
    DID.set(0);
    thread(1, 100, 0, starts, 0)?;
    let mut race = Race::new();
    for round in 1..=5000 {
        let before = free_bytes();
        let slot = object(abi::KIND_THREAD, 0)?;
        invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, 0, 0, 0])?;
        // It never gets the core, which the one that starts it has.
        invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + 1, 1])?;
        THREAD.set(slot);
        ROUND.set(round);
        race.wait();
        delete(slot)?;
        holds(wait_for(|| DID.get() / 2 == round))?;
        race.ended(DID.get() % 2 == 1);
        equal(free_bytes(), before)?;
        reuse_slots(slot - 1);
    }
    race.both_happened()
}

fn delete_running() -> Outcome {
    delete(counter_on_core_1()?)?;
    counter_stands_still()
}

extern "C" fn signal_and_wait(slot: u64) -> ! {
    let _ = send(slot, 0, [0; 4], 0);
    loop {
        core::hint::spin_loop();
    }
}

fn states() -> Outcome {
    let notification = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    let slot = thread(0, 10, 0, signal_and_wait, notification)?;
    receive(notification, 0)?;
    crate::support::refused(invoke(slot, abi::THREAD_START, &[0, 0, 0]), abi::Error::BadState)?;
    crate::support::refused(invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 1]), abi::Error::BadState)?;
    crate::support::refused(invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_TASK, 1]), abi::Error::WrongType)?;
    let fresh = object(abi::KIND_THREAD, 0)?;
    crate::support::refused(invoke(fresh, abi::THREAD_START, &[0, 0, 0]), abi::Error::BadState)
}

extern "C" fn waits(notification: u64) -> ! {
    loop {
        let _ = receive(notification, 0);
        COUNT[0].set(COUNT[0].get() + 1);
    }
}

/// The rule that takes the place of a change while queued: there is none after the start.
fn fixed() -> Outcome {
    COUNT[0].set(0);
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let core = cores() - 1;
    let waiter = thread(core, 210, 0, waits, notification)?;
    pause();
    refused(invoke(waiter, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, 1]), abi::Error::BadState)?;
    refused(invoke(waiter, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 1]), abi::Error::BadState)?;
    let (range, _) = memory(1)?;
    let configure = [abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 0, 0];
    refused(invoke(waiter, abi::THREAD_CONFIGURE, &configure), abi::Error::BadState)?;
    // It is where it was, with the priority that it had: above this thread's.
    send(copy(notification, RIGHT_ALL, 1)?, 0, [0; 4], 0)?;
    holds(wait_for(|| COUNT[0].get() == 1))
}

extern "C" fn stops_itself(slot: u64) -> ! {
    loop {
        COUNT[0].set(COUNT[0].get() + 1);
        let _ = invoke(slot, THREAD_STOP, &[]);
    }
}

fn stop_self() -> Outcome {
    COUNT[0].set(0);
    let core = cores() - 1;
    let own = slot() + 1; // the slot that `thread` takes first
    let stopping = thread(core, 210, 0, stops_itself, own)?;
    equal(stopping, own)?;
    for round in 1..20 {
        holds(wait_for(|| COUNT[0].get() == round))?;
        pause();
        equal(COUNT[0].get(), round)?; // it stands still
        invoke(stopping, THREAD_RESUME, &[])?;
    }
    Ok(())
}

static OWN: Shared = Shared::new();

/// Start a thread by a copy of a Cpu capability.
fn thread_by(cpu: u64, priority: u64, entry: Entry, argument: u64) -> Result<u64, Error> {
    thread(cpu - abi::ROOT_CAP_CPU, priority, 0, entry, argument)
}

fn revoked_cpu() -> Outcome {
    for core in 1..cores() {
        COUNT.iter().for_each(|count| count.set(0));
        let lent = copy(abi::ROOT_CAP_CPU + core, RIGHT_ALL, 0)?;
        let passed_on = copy(lent, RIGHT_WRITE, 0)?;
        let urgent = thread_by(passed_on, 100, count, 0)?;
        let other = thread(core, 50, 0, count, 1)?;
        holds(wait_for(|| COUNT[0].get() > 0))?;
        // What was derived from a capability that is deleted is then derived from that one's origin: it runs on.
        delete(passed_on)?;
        let before = COUNT[0].get();
        holds(wait_for(|| COUNT[0].get() > before + 1000))?;
        equal(COUNT[1].get(), 0)?;
        revoke(lent)?;
        // The core is free for a thread that has it by another capability.
        holds(wait_for(|| COUNT[1].get() > 0))?;
        let [ended, running] = [0, 1].map(|i| COUNT[i].get());
        // Nothing brings the other one back.
        invoke(urgent, THREAD_RESUME, &[])?;
        refused(invoke(urgent, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, 100]), Error::BadState)?;
        refused(invoke(urgent, abi::THREAD_START, &[count as *const () as u64, 0, 0]), Error::BadState)?;
        holds(wait_for(|| COUNT[1].get() > running + 1000))?;
        equal(COUNT[0].get(), ended)?;
        // What was revoked can be lent anew.
        let urgent = thread_by(copy(lent, RIGHT_WRITE, 0)?, 100, count, 0)?;
        holds(wait_for(|| COUNT[0].get() > ended))?;
        delete(urgent)?;
        delete(other)?;
    }
    Ok(())
}

extern "C" fn waits_to_receive(endpoint: u64) -> ! {
    COUNT[0].set(1);
    let _ = receive(endpoint, 0);
    COUNT[0].set(2);
    loop {
        core::hint::spin_loop();
    }
}

fn revoked_cpu_of_idle() -> Outcome {
    for core in 0..cores() {
        let lent = copy(abi::ROOT_CAP_CPU + core, RIGHT_ALL, 0)?;
        let endpoint = object(abi::KIND_ENDPOINT, 0)?;
        let (space, range) = (object(abi::KIND_CSPACE, 8)?, memory(1)?.0);
        let before = free_bytes();
        let new = object(abi::KIND_THREAD, 0)?;
        invoke(new, abi::THREAD_CONFIGURE, &[space, abi::ROOT_CAP_TASK, range, 0, endpoint])?;
        invoke(new, abi::THREAD_BIND, &[copy(lent, RIGHT_WRITE, 0)?, 210])?;
        // It is more urgent than this thread, or on another core.
        COUNT[0].set(0);
        let waiting = thread_by(lent, 210, waits_to_receive, endpoint)?;
        holds(COUNT[0].await_value(1))?;
        pause();
        let between = free_bytes();
        revoke(lent)?;
        refused(invoke(new, abi::THREAD_START, &[0, 0, 0]), Error::BadState)?;
        refused(rt::raw(abi::SYS_SEND, endpoint, abi::TAG_POLL, [0; 4], 0).and(poll(endpoint, 0)), Error::Empty)?;
        pause();
        equal(COUNT[0].get(), 1)?;
        refused(invoke(waiting, abi::THREAD_CANCEL, &[]), Error::BadState)?;
        delete(waiting)?;
        delete(new)?;
        // (The memory that the waiting thread had as its stack and message page is mapped here.)
        holds(wait_for(|| free_bytes() == between + 2 * 4096))?;
        holds(between < before)?;
    }
    Ok(())
}

fn ceiling() -> Outcome {
    let cpu = copy(abi::ROOT_CAP_CPU, RIGHT_ALL, 100)?;
    let thread = object(abi::KIND_THREAD, 0)?;
    for priority in [101, 200, 255] {
        refused(invoke(thread, abi::THREAD_BIND, &[cpu, priority]), Error::NoRights)?;
    }
    for priority in [0, 99, 100] {
        invoke(thread, abi::THREAD_BIND, &[cpu, priority])?;
    }
    // What has no ceiling gives every priority.
    invoke(thread, abi::THREAD_BIND, &[copy(abi::ROOT_CAP_CPU, RIGHT_ALL, 0)?, 255]).map(drop)?;
    Ok(())
}

fn ceilings_fall() -> Outcome {
    let thread = object(abi::KIND_THREAD, 0)?;
    let gives = |cpu: u64, priority: u64| invoke(thread, abi::THREAD_BIND, &[cpu, priority]);
    let high = copy(abi::ROOT_CAP_CPU, RIGHT_ALL, 200)?;
    let same = copy(high, RIGHT_ALL, 0)?;
    let low = copy(high, RIGHT_ALL, 50)?;
    gives(same, 200)?;
    refused(gives(same, 201), Error::NoRights)?;
    gives(low, 50)?;
    refused(gives(low, 51), Error::NoRights)?;
    for above in [51, 200, 255, 256, u64::MAX] {
        refused(copy(low, RIGHT_ALL, above), Error::BadState)?;
    }
    // Beyond all priorities there is nothing to give.
    let highest = copy(abi::ROOT_CAP_CPU, RIGHT_ALL, 1 << 40)?;
    gives(highest, 255)?;
    refused(gives(highest, 256), Error::BadArgument)
}

extern "C" fn tells_core(_: u64) -> ! {
    let core: u32;
    // SAFETY: RDTSCP gives TSC_AUX, which is the core's number.
    unsafe { core::arch::asm!("rdtscp", out("ecx") core, out("eax") _, out("edx") _) };
    COUNT[0].set(u64::from(core) + 1);
    loop {
        let _ = invoke(OWN.get(), THREAD_STOP, &[]);
    }
}

fn cpu_capability() -> Outcome {
    use abi::{CPU_ID, THREAD_BIND, THREAD_CONFIGURE, THREAD_START};
    for core in 0..cores() {
        let cpu = copy(abi::ROOT_CAP_CPU + core, abi::RIGHT_WRITE, 0)?;
        equal(invoke(cpu, CPU_ID, &[])?[0], core)?;
        let own = object(abi::KIND_THREAD, 0)?;
        let (range, at) = memory(5)?;
        invoke(own, THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 0, 0])?;
        let start = || invoke(own, THREAD_START, &[tells_core as *const () as u64, at + 5 * 4096 - 8, 0]);
        // Without a core it cannot be started, by no call.
        refused(start(), Error::BadState)?;
        refused(invoke(own, abi::THREAD_RUN, &[abi::ROOT_CAP_TASK]), Error::BadState)?;
        refused(invoke(own, abi::THREAD_VCPU, &[range, 0]), Error::BadState)?;
        // No number, no other object, no capability without the right, and no deleted one names a core.
        if core < abi::ROOT_CAP_CPU {
            let other = if (1..=abi::ROOT_CAP_MODULE).contains(&core) { Error::WrongType } else { Error::NoCapability };
            refused(invoke(own, THREAD_BIND, &[core, 210]), other)?;
        }
        refused(invoke(own, THREAD_BIND, &[slot(), 210]), Error::NoCapability)?;
        refused(invoke(own, THREAD_BIND, &[copy(cpu, abi::RIGHT_READ, 0)?, 210]), Error::NoRights)?;
        let gone = copy(cpu, RIGHT_ALL, 0)?;
        delete(gone)?;
        refused(invoke(own, THREAD_BIND, &[gone, 210]), Error::NoCapability)?;
        refused(start(), Error::BadState)?;
        COUNT[0].set(0);
        OWN.set(own);
        // Above this thread's priority, so that it runs at once where it shares the core.
        invoke(own, THREAD_BIND, &[cpu, 210])?;
        start()?;
        holds(wait_for(|| COUNT[0].get() == core + 1))?;
        delete(own)?;
    }
    Ok(())
}

// User mode sees each entry into the kernel: a null selector with a privilege level (3) in DS becomes 0 when IRET returns
// to a lower privilege (SDM vol. 2, IRET; "SegmentRegister := NULL"). The kernel does not save DS.
// Counts its turns in the first word of the data page until DS changes, which ends with UD2, or until the TSC reaches the
// second word, if that is not 0. (It seldom asks for the TSC: QEMU has one lock for all cores there.)
code!(
    WATCH,
    "mov ax, 3",
    "mov ds, ax",
    "2:",
    "inc qword ptr [0x800000]",
    "mov ecx, 1000",
    "4:",
    "mov ax, ds",
    "cmp ax, 3",
    "jne 5f",
    "dec ecx",
    "jnz 4b",
    "5:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov rbx, [0x800008]",
    "dec rbx",
    "cmp rax, rbx",
    // What came when the time was over is not counted.
    "jae 3f",
    "test ecx, ecx",
    "jz 2b",
    "ud2",
    "3:",
    "int3",
);

fn watcher(core: u64) -> Result<Program, abi::Error> {
    Program::start_on(core, bytes(&raw const WATCH))
}

const UNDISTURBED: u64 = 3;
const INTERRUPTED: u64 = 6;

fn silence() -> Outcome {
    // That the watcher sees what it looks for: a stop is an interrupt.
    if cores() > 1 {
        let program = watcher(1)?;
        holds(wait_for(|| program.word(0) > 10))?;
        invoke(program.thread, THREAD_STOP, &[])?;
        pause();
        invoke(program.thread, THREAD_RESUME, &[])?;
        equal(program.fault()?[0], INTERRUPTED)?;
    }
    // All cores at once, this thread waiting: on each one thread that can run. The time begins when all others do.
    let mut programs = [const { None }; abi::MAX_CORES];
    for (core, program) in (0..cores()).rev().zip(&mut programs) {
        *program = Some(watcher(core)?);
    }
    let others = || programs.iter().flatten().take(cores() as usize - 1);
    while others().any(|program| program.word(0) == 0) {
        core::hint::spin_loop();
    }
    let end = tsc() + 10 * tsc_hz();
    programs.iter().flatten().for_each(|program| program.set_word(1, end));
    for program in programs.iter().flatten() {
        let [vector, ..] = program.fault()?;
        equal(vector, UNDISTURBED)?;
        holds(program.word(0) > 100)?;
    }
    Ok(())
}

/// A watcher on a core that has nothing left to do: what earlier tests gave it to destroy, it does beside its thread, with an
/// interrupt for each share.
fn quiet_watcher(core: u64) -> Result<Program, Failure> {
    for _ in 0..50 {
        let program = watcher(core)?;
        holds(wait_for(|| program.word(0) > 0))?;
        (0..5).for_each(|_| pause()); // some time slices
        if poll(program.endpoint, program.reply).is_err() {
            return Ok(program);
        }
    }
    Err(abi::Error::Busy.into())
}

fn foreign_spaces() -> Outcome {
    let program = quiet_watcher(1)?;
    let (range, _) = memory(1)?;
    let notification = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    for _ in 0..300 {
        // Mappings come and go in this Task and in another, memory is given back, objects die, signals are sent.
        let task = object(abi::KIND_TASK, 0)?;
        let brief = object(abi::KIND_RANGE, 1)?;
        let at = crate::support::address(4096);
        for (task, range) in [(abi::ROOT_CAP_TASK, range), (task, brief)] {
            invoke(task, abi::TASK_MAP, &[range, 0, at, 4096, abi::MAP_READ | abi::MAP_WRITE])?;
            invoke(task, abi::TASK_MAP, &[range, 0, at, 4096, abi::MAP_READ])?;
            invoke(task, abi::TASK_UNMAP, &[at, 4096])?;
        }
        invoke(task, abi::TASK_MAP, &[brief, 0, at, 4096, abi::MAP_READ])?;
        delete(brief)?;
        delete(task)?;
        send(notification, 0, [0; 4], 0)?;
        crate::support::reuse_slots(notification);
    }
    let turns = program.word(0);
    holds(wait_for(|| program.word(0) > turns + 10))?; // it had time to see an interrupt
    refused(poll(program.endpoint, program.reply), abi::Error::Empty)
}

/// What the other core's thread is to do: round, and the thread to decouple.
static ROUND: Shared = Shared::new();
static THREAD: Shared = Shared::new();
/// The round that it did, times two; odd where it had its way.
static DID: Shared = Shared::new();

/// Decouples THREAD in each round; its argument is the slot of the page's Range and, 32 bits up, the doorbell's.
extern "C" fn decouples(slots: u64) -> ! {
    loop {
        let round = ROUND.get();
        if round == DID.get() / 2 {
            core::hint::spin_loop();
            continue;
        }
        let done = invoke(THREAD.get(), abi::THREAD_DECOUPLE, &[slots & 0xffff_ffff, 0, slots >> 32]).is_ok();
        DID.set(round * 2 + u64::from(done));
    }
}

fn one_thing() -> Outcome {
    ROUND.set(0);
    DID.set(0);
    let (range, _) = memory(5)?;
    let bell = object(abi::KIND_NOTIFICATION, 0)?;
    thread(1, 100, 0, decouples, range | bell << 32)?;
    let mut race = Race::new();
    for round in 1..=1000 {
        let slot = object(abi::KIND_THREAD, 0)?;
        invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, 0, 0, 0])?;
        invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 1])?;
        THREAD.set(slot);
        ROUND.set(round);
        race.wait();
        let other = if round % 2 == 0 {
            invoke(slot, abi::THREAD_VCPU, &[range, 4096])
        } else {
            invoke(slot, abi::THREAD_START, &[0, 0, 0])
        };
        holds(wait_for(|| DID.get() / 2 == round))?;
        // One of both has it, and only one.
        let decoupled = DID.get() % 2 == 1;
        holds(decoupled == other.is_err())?;
        race.ended(decoupled);
        delete(slot)?;
        reuse_slots(slot - 1);
    }
    race.both_happened()
}
