//! Decoupled threads: a user context alone on another core, answered through its frame.

use core::sync::atomic::Ordering;

use abi::{
    ANSWER_DETACH, ANSWER_SAVE, ANSWER_XSTATE, DecoupledFrame, Error, FRAME_ANSWERED, FRAME_IDLE, FRAME_TRAPPED,
};
use abi::{MAP_READ, MAP_WRITE, MapItem, RIGHT_ALL, TASK_UNMAP, TRAP_REFUSED, TRAP_STOP, TRAP_SYSCALL};
use rt::{invoke, poll, receive};

use crate::support::{
    CODE, DATA, Failure, Outcome, Shared, Test, copy, delete, equal, holds, memory, object, pause, refused, revoke,
    sleep_for_ever, thread, user_task, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "system_calls_of_a_decoupled_thread_are_answered_in_its_frame", cores: 2, run: system_calls },
    Test { name: "a_late_answer_wakes_the_halted_core", cores: 2, run: late_answer },
    Test { name: "a_fault_of_a_decoupled_thread_is_answered_by_a_map_item", cores: 2, run: map_item },
    Test { name: "a_running_decoupled_thread_can_be_stopped", cores: 2, run: stop },
    Test { name: "a_detached_thread_leaves_its_core_to_the_next", cores: 2, run: detach },
    Test { name: "an_unmap_reaches_a_running_decoupled_thread", cores: 2, run: unmap },
    Test { name: "extended_state_goes_both_ways", cores: 2, run: xstate },
    Test {
        name: "a_trap_leaves_the_extended_state_in_the_core_until_it_is_asked_for",
        cores: 2,
        run: saved_when_asked,
    },
    Test { name: "a_detach_saves_the_extended_state_where_it_is_asked_to", cores: 2, run: saved_by_detach },
    Test { name: "a_context_begins_with_its_own_extended_state_whatever_the_frame_says", cores: 2, run: own_xstate },
    Test { name: "a_bad_answer_is_refused_and_can_be_mended", cores: 2, run: bad_answer },
    Test { name: "a_frame_that_changes_while_the_trap_is_saved_is_not_believed", cores: 2, run: changing_frame },
    Test { name: "any_number_of_refused_answers_takes_no_kernel_stack", cores: 2, run: refused_often },
    Test { name: "deleting_a_decoupled_thread_frees_its_core", cores: 2, run: deleted },
    Test { name: "revoking_its_cpu_capability_ends_a_decoupled_thread", cores: 2, run: cpu_revoked },
    Test { name: "a_decoupled_thread_ends_with_the_capability_to_its_frame", cores: 2, run: frame_revoked },
    Test { name: "a_decoupled_thread_cannot_be_run_twice", cores: 2, run: twice },
    Test { name: "a_decoupled_thread_has_its_core_until_it_is_detached", cores: 2, run: alone },
    Test { name: "registers_that_a_frame_brings_are_checked", cores: 2, run: sanitised },
];

pub struct Decoupled {
    thread: u64,
    task: u64,
    data: u64,
    range: u64,
    frame: *mut DecoupledFrame,
    doorbell: u64,
}

impl Decoupled {
    /// A thread of core 1 that will run `code`.
    fn new(code: &[u8]) -> Result<Self, Failure> {
        let doorbell = object(abi::KIND_NOTIFICATION, 0)?;
        Ok(Self { doorbell, ..Self::with_doorbell(code, copy(doorbell, RIGHT_ALL, 1)?)? })
    }

    /// The same with a badged capability of the caller's as doorbell.
    pub fn with_doorbell(code: &[u8], badged: u64) -> Result<Self, Failure> {
        let (task, _, data) = user_task(code)?;
        let (range, at) = memory(3)?;
        let thread = object(abi::KIND_THREAD, 0)?;
        invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + 1, 100])?;
        invoke(thread, abi::THREAD_DECOUPLE, &[range, 0, badged])?;
        let new = Self { thread, task, data, range, frame: at as *mut DecoupledFrame, doorbell: badged };
        new.reset();
        Ok(new)
    }

    fn reset(&self) {
        self.frame().frame.regs = abi::Regs { rip: CODE, rsp: DATA + 4096, ..abi::Regs::default() };
    }

    #[allow(clippy::mut_from_ref)]
    fn frame(&self) -> &mut DecoupledFrame {
        // SAFETY: the frame page is mapped; tests look at its plain fields only while it is theirs.
        unsafe { &mut *self.frame }
    }

    pub fn run(&self) -> Result<(), Error> {
        invoke(self.thread, abi::THREAD_RUN, &[self.task]).map(drop)
    }

    /// Wait for the next trap; its number.
    fn trap(&self) -> Result<u64, Failure> {
        receive(self.doorbell, 0)?;
        equal(u64::from(self.frame().state.load(Ordering::Acquire)), u64::from(FRAME_TRAPPED))?;
        Ok(self.frame().frame.trapno)
    }

    pub fn answer(&self, flags: u32) -> Result<(), Error> {
        let frame = self.frame();
        frame.answer = flags;
        frame.state.swap(FRAME_ANSWERED, Ordering::SeqCst);
        if frame.sleeping.load(Ordering::SeqCst) != 0 {
            invoke(self.thread, abi::THREAD_WAKE, &[])?;
        }
        Ok(())
    }

    /// Have the core write the extended state into the frame, which stays trapped.
    fn save(&self) -> Outcome {
        self.answer(ANSWER_SAVE)?;
        holds(wait_for(|| self.frame().state.load(Ordering::Acquire) == FRAME_TRAPPED))
    }

    /// The lower half of xmm3 in the frame.
    fn xmm3(&self) -> u64 {
        u64::from_le_bytes(self.frame().xsave[XMM3..XMM3 + 8].try_into().expect("eight bytes"))
    }

    fn set_xmm3(&self, value: u64) {
        self.frame().xsave[XMM3..XMM3 + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn is_idle(&self) -> bool {
        self.frame().state.load(Ordering::Acquire) == FRAME_IDLE
    }
}

/// mov eax, 39; syscall; jmp to the start
const CALLS: [u8; 9] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
/// inc qword ptr [DATA]; jmp to the start
const COUNT: [u8; 10] = [0x48, 0xff, 0x04, 0x25, 0, 0, 0x80, 0, 0xeb, 0xf6];

fn word(at: u64) -> u64 {
    // SAFETY: callers pass mapped memory.
    unsafe { (at as *const u64).read_volatile() }
}

fn system_calls() -> Outcome {
    let d = Decoupled::new(&CALLS)?;
    d.frame().frame.regs.rbx = 77;
    d.run()?;
    for i in 0..300 {
        equal(d.trap()?, TRAP_SYSCALL)?;
        let regs = &mut d.frame().frame.regs;
        equal(regs.orig_rax, 39)?;
        equal(regs.rip, CODE + 7)?;
        equal(regs.rbx, 77 + i)?;
        regs.rbx += 1;
        d.answer(0)?;
    }
    Ok(())
}

fn late_answer() -> Outcome {
    let d = Decoupled::new(&CALLS)?;
    d.run()?;
    for _ in 0..3 {
        d.trap()?;
        holds(wait_for(|| d.frame().sleeping.load(Ordering::SeqCst) == 1))?;
        d.answer(0)?;
    }
    d.trap().map(drop)
}

fn map_item() -> Outcome {
    // mov rax, [0x900000]; syscall
    let d = Decoupled::new(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x90, 0, 0x0f, 0x05])?;
    d.run()?;
    equal(d.trap()?, 14)?;
    equal(d.frame().frame.address, 0x90_0000)?;
    equal(d.frame().frame.regs.rip, CODE)?;
    // SAFETY: the third page of the frame's Range.
    unsafe { d.frame.cast::<u64>().add(1024).write_volatile(0x77) };
    d.frame().items[0] = MapItem { address: 0x90_0000, offset: 8192, size: 4096, flags: MAP_READ | MAP_WRITE };
    d.frame().item_count = 1;
    d.answer(0)?;
    equal(d.trap()?, TRAP_SYSCALL)?;
    equal(d.frame().frame.regs.rax, 0x77)?;
    equal(d.frame().item_count, 0)
}

fn stop() -> Outcome {
    let d = Decoupled::new(&COUNT)?;
    d.run()?;
    for _ in 0..20 {
        let before = word(d.data);
        equal(u64::from(wait_for(|| word(d.data) > before)), 1)?;
        invoke(d.thread, abi::THREAD_STOP, &[])?;
        equal(d.trap()?, TRAP_STOP)?;
        let stopped = word(d.data);
        pause();
        equal(word(d.data), stopped)?;
        d.answer(0)?;
    }
    Ok(())
}

fn detach() -> Outcome {
    let d = Decoupled::new(&CALLS)?;
    for _ in 0..50 {
        d.reset();
        d.run()?;
        d.trap()?;
        d.answer(ANSWER_DETACH)?;
        equal(u64::from(wait_for(|| d.is_idle())), 1)?;
    }
    // Another Task may have the core now.
    let (task, _, data) = user_task(&COUNT)?;
    d.reset();
    invoke(d.thread, abi::THREAD_RUN, &[task])?;
    equal(u64::from(wait_for(|| word(data) > 10)), 1)
}

fn unmap() -> Outcome {
    let d = Decoupled::new(&COUNT)?;
    d.run()?;
    equal(u64::from(wait_for(|| word(d.data) > 10)), 1)?;
    invoke(d.task, TASK_UNMAP, &[DATA, 4096])?;
    let last = word(d.data);
    equal(d.trap()?, 14)?;
    equal(d.frame().frame.address, DATA)?;
    equal(word(d.data), last)
}

/// Offset of xmm3 in an XSAVE area.
const XMM3: usize = 160 + 3 * 16;
/// movq xmm3, rax; syscall; movq rax, xmm3; syscall
const TO_AND_FROM_XMM3: [u8; 14] = [0x66, 0x48, 0x0f, 0x6e, 0xd8, 0x0f, 0x05, 0x66, 0x48, 0x0f, 0x7e, 0xd8, 0x0f, 0x05];

fn xstate() -> Outcome {
    let d = Decoupled::new(&TO_AND_FROM_XMM3)?;
    d.frame().frame.regs.rax = 0x5555;
    d.run()?;
    d.trap()?;
    d.save()?;
    equal(d.xmm3(), 0x5555)?;
    d.set_xmm3(0x6666);
    d.answer(ANSWER_XSTATE)?;
    d.trap()?;
    equal(d.frame().frame.regs.rax, 0x6666)
}

fn saved_when_asked() -> Outcome {
    let d = Decoupled::new(&TO_AND_FROM_XMM3)?;
    d.frame().frame.regs.rax = 0x5555;
    d.run()?;
    d.trap()?;
    d.set_xmm3(0x7777);
    pause();
    equal(d.xmm3(), 0x7777)?; // nobody writes there unasked
    // As often as one likes; also of a core that has gone to sleep; and registers and items stay as they are.
    for _ in 0..3 {
        holds(wait_for(|| d.frame().sleeping.load(Ordering::SeqCst) == 1))?;
        d.frame().frame.regs.rbx = 0x99;
        d.frame().item_count = 1;
        d.set_xmm3(0x7777);
        d.save()?;
        equal(d.xmm3(), 0x5555)?;
        equal(d.frame().frame.regs.rbx, 0x99)?;
        equal(d.frame().item_count, 1)?;
        refused(poll(d.doorbell, 0), Error::Empty)?; // it is no trap
    }
    d.frame().item_count = 0;
    // What is in the core counts, unless the answer brings another.
    d.set_xmm3(0x7777);
    d.answer(0)?;
    equal(d.trap()?, TRAP_SYSCALL)?;
    equal(d.frame().frame.regs.rax, 0x5555)
}

fn saved_by_detach() -> Outcome {
    let d = Decoupled::new(&TO_AND_FROM_XMM3)?;
    for value in [0x5555, 0x6666] {
        d.reset();
        d.frame().frame.regs.rax = value;
        d.run()?;
        d.trap()?;
        d.set_xmm3(0x7777);
        d.answer(ANSWER_SAVE | ANSWER_DETACH)?;
        holds(wait_for(|| d.is_idle()))?;
        equal(d.xmm3(), value)?;
    }
    Ok(())
}

static HELD: Shared = Shared::new();

extern "C" fn hold_core(_: u64) -> ! {
    HELD.set(1);
    while HELD.get() == 1 {}
    sleep_for_ever()
}

/// The frame is Linux's, too: what the kernel writes there need not be there any more when it looks again.
fn own_xstate() -> Outcome {
    let d = Decoupled::new(&TO_AND_FROM_XMM3)?;
    for words in [0, ANSWER_SAVE] {
        // A context leaves its secret in the core's registers.
        d.reset();
        d.frame().frame.regs.rax = 0x5ec2e7;
        d.run()?;
        d.trap()?;
        d.answer(ANSWER_DETACH)?;
        holds(wait_for(|| d.is_idle()))?;
        // The next one begins at the second half of the code, and somebody writes into its frame before the core sees it.
        d.reset();
        d.frame().frame.regs.rip = CODE + 7;
        d.set_xmm3(0);
        thread(1, 200, 0, hold_core, 0)?;
        holds(HELD.await_value(1))?;
        d.run()?;
        d.frame().answer = words;
        HELD.set(0);
        equal(d.trap()?, TRAP_SYSCALL)?;
        equal(d.frame().frame.regs.rax, 0)?;
        d.answer(ANSWER_DETACH)?;
        holds(wait_for(|| d.is_idle()))?;
    }
    Ok(())
}

fn bad_answer() -> Outcome {
    let d = Decoupled::new(&CALLS)?;
    d.run()?;
    d.trap()?;
    d.frame().items[0] = MapItem { address: 0x90_0000, offset: 1 << 40, size: 4096, flags: MAP_READ };
    d.frame().item_count = 1;
    d.answer(0)?;
    equal(d.trap()?, TRAP_REFUSED)?;
    equal(d.frame().frame.error, Error::BadAddress as u64)?;
    d.save()?;
    let good = d.frame().xsave;
    d.frame().xsave[512..576].fill(0xff); // a header that XRSTOR refuses
    d.answer(ANSWER_XSTATE)?;
    equal(d.trap()?, TRAP_REFUSED)?;
    d.frame().xsave = good;
    d.answer(ANSWER_XSTATE)?;
    equal(d.trap()?, TRAP_SYSCALL)
}

/// The CPU pushes cs into the shared frame, and the entry code its own words: both are overwritten before it can look.
fn changing_frame() -> Outcome {
    // ud2
    let d = Decoupled::new(&[0x0f, 0x0b])?;
    d.run()?;
    // A kernel that read cs back from the frame was caught by 2,000 traps in five runs of six, by these in eight of eight: it
    // hangs.
    for _ in 0..20_000 {
        equal(d.trap()?, 6)?;
        d.answer(0)?;
        let regs = &raw mut d.frame().frame.regs;
        while d.frame().state.load(Ordering::Acquire) != FRAME_TRAPPED {
            // SAFETY: words of the mapped frame page.
            unsafe {
                (&raw mut (*regs).cs).write_volatile(0);
                (&raw mut (*regs).rdi).write_volatile(0);
            }
        }
    }
    Ok(())
}

fn refused_often() -> Outcome {
    let d = Decoupled::new(&CALLS)?;
    d.run()?;
    d.trap()?;
    for _ in 0..1000 {
        d.frame().items[0] = MapItem { address: 0x90_0000, offset: 1 << 40, size: 4096, flags: MAP_READ };
        d.frame().item_count = 1;
        d.answer(0)?;
        equal(d.trap()?, TRAP_REFUSED)?;
    }
    d.answer(0)?;
    equal(d.trap()?, TRAP_SYSCALL)
}

fn deleted() -> Outcome {
    let d = Decoupled::new(&COUNT)?;
    d.run()?;
    equal(u64::from(wait_for(|| word(d.data) > 10)), 1)?;
    delete(d.thread)?;
    equal(u64::from(wait_for(|| d.is_idle())), 1)?;
    let next = Decoupled::new(&CALLS)?;
    next.run()?;
    equal(next.trap()?, TRAP_SYSCALL)
}

fn cpu_revoked() -> Outcome {
    // One that runs, and one that waits for its answer.
    for (code, trapped) in [(&COUNT[..], false), (&CALLS[..], true)] {
        let d = Decoupled::new(code)?;
        d.run()?;
        if trapped {
            d.trap()?;
        } else {
            holds(wait_for(|| word(d.data) > 10))?;
        }
        revoke(abi::ROOT_CAP_CPU + 1)?;
        holds(wait_for(|| d.is_idle()))?;
        refused(d.run(), Error::BadState)?;
    }
    // One that has not begun.
    let d = Decoupled::new(&CALLS)?;
    revoke(abi::ROOT_CAP_CPU + 1)?;
    refused(d.run(), Error::BadState)?;
    holds(d.is_idle())
}

fn frame_revoked() -> Outcome {
    // One that runs, one that waits for its answer, and one that has not begun.
    for (code, begun, trapped) in [(&COUNT[..], true, false), (&CALLS[..], true, true), (&CALLS[..], false, false)] {
        let d = Decoupled::new(code)?;
        if begun {
            d.run()?;
        }
        if trapped {
            d.trap()?;
        } else if begun {
            holds(wait_for(|| word(d.data) > 10))?;
        }
        revoke(d.range)?;
        holds(d.is_idle())?;
        refused(d.run(), Error::BadState)?;
        holds(d.is_idle())?;
        // The core is free.
        let next = Decoupled::new(&CALLS)?;
        next.run()?;
        next.trap()?;
        delete(next.thread)?;
    }
    Ok(())
}

fn twice() -> Outcome {
    let d = Decoupled::new(&CALLS)?;
    refused(invoke(d.thread, abi::THREAD_START, &[CODE, 0, 0]), Error::BadState)?;
    d.run()?;
    refused(d.run(), Error::BadState)?;
    d.trap()?;
    refused(d.run(), Error::BadState)?;
    refused(poll(d.doorbell, 0), Error::Empty)
}

static RAN: Shared = Shared::new();

extern "C" fn runs(_: u64) -> ! {
    loop {
        RAN.set(RAN.get() + 1);
    }
}

fn alone() -> Outcome {
    RAN.set(0);
    // mov rbx, 0x1234; inc qword ptr [DATA]; cmp rbx, 0x1234; je to the inc; ud2
    let d = Decoupled::new(&[
        0x48, 0xc7, 0xc3, 0x34, 0x12, 0, 0, 0x48, 0xff, 0x04, 0x25, 0, 0, 0x80, 0, 0x48, 0x81, 0xfb, 0x34, 0x12, 0, 0,
        0x74, 0xef, 0x0f, 0x0b,
    ])?;
    d.run()?;
    equal(u64::from(wait_for(|| word(d.data) > 10)), 1)?;
    // Threads of higher and of the same priority become ready: they wait.
    thread(1, 255, 0, runs, 0)?;
    thread(1, 100, 0, runs, 0)?;
    pause();
    let before = word(d.data);
    equal(u64::from(wait_for(|| word(d.data) > before + 1000)), 1)?;
    equal(RAN.get(), 0)?;
    // Also while it waits for its answer.
    invoke(d.thread, abi::THREAD_STOP, &[])?;
    equal(d.trap()?, TRAP_STOP)?;
    equal(d.frame().frame.regs.rbx, 0x1234)?;
    pause();
    equal(RAN.get(), 0)?;
    d.answer(ANSWER_DETACH)?;
    equal(u64::from(wait_for(|| RAN.get() > 1000)), 1)
}

fn sanitised() -> Outcome {
    // pushfq; pop rax; rdgsbase rbx; syscall
    let d = Decoupled::new(&[0x9c, 0x58, 0xf3, 0x48, 0x0f, 0xae, 0xcb, 0x0f, 0x05])?;
    let regs = &mut d.frame().frame.regs;
    regs.rflags = 0x3000 | 0x4000 | 0x2_0000; // IOPL 3, NT, VM
    (regs.cs, regs.ss) = (8, 0x10);
    regs.gs_base = 0x0123_4567_89ab_cdef; // not canonical
    d.run()?;
    equal(d.trap()?, TRAP_SYSCALL)?;
    let regs = &mut d.frame().frame.regs;
    equal(regs.rax & 0x2_7200, 0x200)?;
    equal(regs.rbx, 0)?;
    for rip in [0xffff_ffff_8010_0000, 0x8000_0000_0000, 0x0123_4567_89ab_cdef] {
        d.frame().frame.regs.rip = rip;
        d.answer(0)?;
        equal(d.trap()?, 14)?;
        equal(u64::from(d.frame().frame.address < 1 << 47), 1)?;
    }
    Ok(())
}
