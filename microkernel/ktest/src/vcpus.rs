//! vCPUs: a thread that is now "Linux" (the functions here) and now a user context.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use abi::{
    Error, MAP_READ, MAP_WRITE, MapItem, PENDING_TIMER, RESUME_USER, RESUME_WAIT, RIGHT_ALL, RIGHT_WRITE,
    SYS_VCPU_RESUME,
};
use abi::{TRAP_IRQ, TRAP_SYSCALL, TrapFrame, VCPU_EXC, VCPU_IRQ, VCPU_USER, VcpuState};
use rt::{invoke, raw, receive, send};

use crate::support::{
    CODE, DATA, Failure, Outcome, Shared, Test, copy, equal, holds, memory, object, refused, revoke, thread, tsc,
    tsc_hz, user_task, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "a_system_call_of_the_user_context_enters_linux", cores: 1, run: || on_vcpu(system_call) },
    Test { name: "an_interrupt_leaves_the_user_context", cores: 1, run: || on_vcpu(interrupt_user) },
    Test { name: "a_pending_signal_is_seen_before_the_user_context_runs", cores: 1, run: || on_vcpu(pending_first) },
    Test { name: "a_signal_waits_while_interrupts_are_off", cores: 1, run: || on_vcpu(interrupts_off) },
    Test { name: "an_upcall_interrupts_linux_and_returns", cores: 1, run: || on_vcpu(interrupt_kernel) },
    Test { name: "a_wait_ends_with_the_timer", cores: 1, run: || on_vcpu(wait) },
    Test { name: "a_fault_is_answered_by_a_map_item", cores: 1, run: || on_vcpu(map_item) },
    Test { name: "a_resume_into_no_task_is_refused", cores: 1, run: || on_vcpu(no_task) },
    Test { name: "upper_half_addresses_and_system_flags_do_not_reach_the_cpu", cores: 1, run: || on_vcpu(sanitised) },
    Test { name: "an_exception_of_linux_itself_is_an_upcall", cores: 1, run: || on_vcpu(own_exception) },
    Test { name: "a_double_fault_of_linux_goes_to_its_fault_endpoint", cores: 1, run: double_fault },
    Test { name: "resume_is_for_vcpus_only", cores: 1, run: only_vcpus },
    Test {
        name: "signals_from_another_core_interrupt_the_user_context",
        cores: 2,
        run: || on_vcpu_of(1, remote_signal),
    },
    Test { name: "who_may_only_signal_a_vcpu_does_not_control_it", cores: 1, run: || on_vcpu(only_signals) },
    Test { name: "a_vcpu_ends_with_the_capability_to_its_page", cores: 2, run: page_revoked },
    Test { name: "revoking_their_cpu_capability_ends_vcpus", cores: 2, run: cpu_revoked },
];

global_asm!(
    // u64 vcpu_run_user(VcpuState *): 0 after a trap of the user context, else the negated error.
    ".global vcpu_run_user",
    "vcpu_run_user:",
    "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15",
    "mov [rdi + {entry_sp}], rsp",
    "mov eax, {resume}",
    "mov edi, {user}",
    "syscall",
    "2:",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
    "ret",
    ".global vcpu_entry",
    "vcpu_entry:",
    "test dword ptr gs:[{saved_flags}], {flag_user}",
    "jz 3f",
    "xor eax, eax",
    "jmp 2b",
    // From kernel mode: count, keep the trap number and the flags seen; step over a UD2; return as it was.
    "3: inc qword ptr gs:[{linux}]",
    "mov rax, gs:[0]",
    "mov gs:[{linux} + 8], rax",
    "mov eax, gs:[{flags}]",
    "mov gs:[{linux} + 16], rax",
    "cmp qword ptr gs:[0], 6",
    "jne 4f",
    "add qword ptr gs:[{rip}], 2",
    "4: xor eax, eax",
    "xchg gs:[{pending}], rax",
    "or gs:[{linux} + 24], rax",
    // rip and rflags go below the interrupted stack pointer, for POPFQ and RET. (QEMU 7.2 executes IRETQ in user mode with
    // supervisor accesses, which SMAP forbids.)
    "mov rcx, gs:[{rsp}]",
    "mov rax, gs:[{rip}]",
    "mov [rcx - 8], rax",
    "mov rax, gs:[{rflags}]",
    "mov [rcx - 16], rax",
    "mov r15, gs:[8]", "mov r14, gs:[16]", "mov r13, gs:[24]", "mov r12, gs:[32]", "mov rbp, gs:[40]",
    "mov rbx, gs:[48]", "mov r11, gs:[56]", "mov r10, gs:[64]", "mov r9, gs:[72]", "mov r8, gs:[80]",
    "mov rcx, gs:[96]", "mov rdx, gs:[104]", "mov rsi, gs:[112]", "mov rdi, gs:[120]",
    "mov eax, gs:[{saved_flags}]",
    "mov gs:[{flags}], eax",
    "mov rax, gs:[88]",
    "mov rsp, gs:[{rsp}]",
    "lea rsp, [rsp - 16]",
    "popfq",
    "ret",
    entry_sp = const offset_of!(VcpuState, entry_sp),
    saved_flags = const offset_of!(VcpuState, saved_flags),
    flags = const offset_of!(VcpuState, flags),
    pending = const offset_of!(VcpuState, pending),
    linux = const offset_of!(VcpuState, linux),
    rip = const offset_of!(TrapFrame, regs) + offset_of!(abi::Regs, rip),
    rsp = const offset_of!(TrapFrame, regs) + offset_of!(abi::Regs, rsp),
    rflags = const offset_of!(TrapFrame, regs) + offset_of!(abi::Regs, rflags),
    resume = const SYS_VCPU_RESUME,
    user = const RESUME_USER,
    flag_user = const VCPU_USER,
);

unsafe extern "C" {
    fn vcpu_run_user(state: *mut VcpuState) -> i64;
    fn vcpu_entry();
}

/// The vCPU of a test, seen from its own code.
pub struct Vcpu {
    state: *mut VcpuState,
    pub slot: u64,
    range: u64,
}

impl Vcpu {
    #[allow(clippy::mut_from_ref)]
    pub fn state(&self) -> &mut VcpuState {
        // SAFETY: the vCPU's page; the kernel writes it only while this code does not run (or in `pending`, which is
        // atomic).
        unsafe { &mut *self.state }
    }

    /// Run the user context until its next trap; the trap number.
    fn run(&self) -> Result<u64, Error> {
        // SAFETY: entry_ip and the rest were set at the start.
        let status = unsafe { vcpu_run_user(self.state) };
        match Error::from_status(status) {
            Some(error) => Err(error),
            None => Ok(self.state().frame.trapno),
        }
    }

    /// A user context at the start of `code`, with interrupts on for Linux.
    pub fn context(&self, code: &[u8]) -> Result<u64, Error> {
        let (task, _, data) = user_task(code)?;
        let state = self.state();
        state.user_task = task;
        state.frame.regs = abi::Regs { rip: CODE, rsp: DATA + 4096, ..abi::Regs::default() };
        Ok(data)
    }

    fn timer(&self, after: u64) -> Result<(), Error> {
        invoke(self.slot, abi::THREAD_TIMER, &[tsc() + after]).map(drop)
    }

    pub fn take_pending(&self) -> u64 {
        self.state().pending.swap(0, Ordering::SeqCst)
    }
}

static BODY: Shared = Shared::new();
static STATE: Shared = Shared::new();
static SLOT: Shared = Shared::new();
static RANGE: Shared = Shared::new();
static DONE: Shared = Shared::new();
static LINE: Shared = Shared::new();
static SAW: [Shared; 2] = [const { Shared::new() }; 2];
static ERROR: Shared = Shared::new();

extern "C" fn vcpu_main(_: u64) -> ! {
    // SAFETY: `on_vcpu_of` stored a function of this type.
    let body: fn(&Vcpu) -> Outcome = unsafe { core::mem::transmute(BODY.get() as usize) };
    let vcpu = Vcpu { state: STATE.get() as *mut VcpuState, slot: SLOT.get(), range: RANGE.get() };
    let state = vcpu.state();
    state.entry_ip = vcpu_entry as *const () as u64;
    state.entry_gs = STATE.get();
    state.flags.store(VCPU_EXC, Ordering::Relaxed);
    // GS base is set at an upcall: have one.
    // SAFETY: UD2 goes to vcpu_entry, which steps over it. Until GS is set there, the page is reached through GS, which
    // the kernel sets before it enters.
    unsafe { core::arch::asm!("ud2") };
    rt::use_message((STATE.get() + 4096) as *mut abi::MessagePage);
    LINE.set(0);
    if let Err(failure) = body(&vcpu) {
        SAW[0].set(failure.saw[0]);
        SAW[1].set(failure.saw[1]);
        ERROR.set(failure.error.map_or(0, |e| -e.status() as u64));
        LINE.set(u64::from(failure.line));
    }
    let _ = send(DONE.get(), 0, [0; 4], 0);
    loop {
        let _ = raw(SYS_VCPU_RESUME, RESUME_WAIT, 0, [0; 4], 0);
        vcpu.take_pending();
    }
}

/// Make a vCPU on a core that runs `entry`.
fn start(core: u64, endpoint: u64, entry: extern "C" fn(u64) -> !) -> Result<u64, Error> {
    let (range, at) = memory(8)?;
    let slot = object(abi::KIND_THREAD, 0)?;
    STATE.set(at);
    SLOT.set(slot);
    RANGE.set(range);
    invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 4096, endpoint])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, 100])?;
    invoke(slot, abi::THREAD_VCPU, &[range, 0])?;
    invoke(slot, abi::THREAD_START, &[entry as *const () as u64, at + 8 * 4096 - 8, 0])?;
    Ok(slot)
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        SPUN.set(SPUN.get() + 1);
    }
}

static SPUN: Shared = Shared::new();

fn page_revoked() -> Outcome {
    for core in 0..crate::support::cores() {
        let slot = start(core, 0, spins)?;
        let bell = copy(slot, RIGHT_ALL, 1)?;
        SPUN.set(0);
        if core > 0 {
            holds(wait_for(|| SPUN.get() > 0))?;
        }
        revoke(RANGE.get())?;
        let (spun, state) = (SPUN.get(), STATE.get() as *const VcpuState);
        send(bell, 0, [0; 4], 0)?;
        crate::support::pause();
        equal(SPUN.get(), spun)?;
        // SAFETY: the page is mapped here.
        equal(unsafe { (*state).pending.load(Ordering::SeqCst) }, 0)?;
    }
    Ok(())
}

/// As many as a core serves, twice: the first ones are gone.
fn cpu_revoked() -> Outcome {
    for _ in 0..2 {
        for _ in 0..4 {
            start(1, 0, spins)?;
        }
        refused(start(1, 0, spins), Error::Busy)?;
        SPUN.set(0);
        holds(wait_for(|| SPUN.get() > 0))?;
        revoke(abi::ROOT_CAP_CPU + 1)?;
    }
    // They had all of the core.
    SPUN.set(0);
    thread(1, 1, 0, spins, 0)?;
    holds(wait_for(|| SPUN.get() > 0))
}

pub fn on_vcpu(body: fn(&Vcpu) -> Outcome) -> Outcome {
    on_vcpu_of(0, body)
}

fn on_vcpu_of(core: u64, body: fn(&Vcpu) -> Outcome) -> Outcome {
    BODY.set(body as *const () as u64);
    let done = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    DONE.set(done);
    let own = rt::message();
    start(core, 0, vcpu_main)?;
    receive(done, 0)?;
    rt::use_message(own);
    if LINE.get() == 0 {
        return Ok(());
    }
    let error = Error::from_status(-(ERROR.get() as i64));
    Err(Failure { line: LINE.get() as u32, saw: [SAW[0].get(), SAW[1].get()], error })
}

/// mov eax, 39; syscall; mov [DATA], rax; ud2
const SYSCALL_CODE: [u8; 18] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x48, 0x89, 0x04, 0x25, 0, 0, 0x80, 0, 0x0f, 0x0b, 0x90];
/// jmp to itself
const SPIN: [u8; 2] = [0xeb, 0xfe];

fn word(at: u64) -> u64 {
    // SAFETY: callers pass mapped memory.
    unsafe { (at as *const u64).read_volatile() }
}

fn system_call(vcpu: &Vcpu) -> Outcome {
    let data = vcpu.context(&SYSCALL_CODE)?;
    vcpu.state().frame.regs.r12 = 0x1212;
    vcpu.state().frame.regs.fs_base = 0x7000;
    equal(vcpu.run()?, TRAP_SYSCALL)?;
    let regs = &mut vcpu.state().frame.regs;
    equal(regs.rax, 39)?;
    equal(regs.orig_rax, 39)?;
    equal(regs.rip, CODE + 7)?;
    equal(regs.r12, 0x1212)?;
    equal(regs.fs_base, 0x7000)?;
    equal(u64::from(vcpu.state().saved_flags & VCPU_USER), u64::from(VCPU_USER))?;
    vcpu.state().frame.regs.rax = 4711;
    equal(vcpu.run()?, 6)?;
    equal(vcpu.state().frame.regs.rip, CODE + 15)?;
    equal(vcpu.state().frame.regs.orig_rax, u64::MAX)?;
    equal(word(data), 4711)
}

fn interrupt_user(vcpu: &Vcpu) -> Outcome {
    vcpu.context(&SPIN)?;
    // Linux's own interrupts stay off, since an upcall from kernel mode would take the frame; the user context is
    // interruptible all the same.
    vcpu.timer(tsc_hz() / 1000)?;
    equal(vcpu.run()?, TRAP_IRQ)?;
    equal(vcpu.take_pending(), PENDING_TIMER)?;
    equal(u64::from(vcpu.state().flags.load(Ordering::Relaxed)), u64::from(VCPU_EXC))?;
    equal(u64::from(vcpu.state().saved_flags), u64::from(VCPU_EXC | VCPU_USER))?;
    equal(vcpu.state().frame.regs.rip, CODE)
}

fn pending_first(vcpu: &Vcpu) -> Outcome {
    vcpu.context(&SYSCALL_CODE)?;
    send(copy(vcpu.slot, RIGHT_ALL, 0x10)?, 0, [0; 4], 0)?;
    equal(vcpu.run()?, TRAP_IRQ)?;
    equal(vcpu.state().frame.regs.rip, CODE)?;
    equal(vcpu.take_pending(), 0x10)?;
    equal(vcpu.run()?, TRAP_SYSCALL)
}

fn interrupts_off(vcpu: &Vcpu) -> Outcome {
    vcpu.state().linux[0] = 0;
    vcpu.timer(tsc_hz() / 2000)?;
    equal(u64::from(wait_for(|| vcpu.state().pending.load(Ordering::SeqCst) == PENDING_TIMER)), 1)?;
    equal(vcpu.state().linux[0], 0)?;
    equal(vcpu.take_pending(), PENDING_TIMER)
}

fn interrupt_kernel(vcpu: &Vcpu) -> Outcome {
    let count = &raw mut vcpu.state().linux[0];
    vcpu.state().linux = [0; 16];
    vcpu.state().flags.store(VCPU_EXC | VCPU_IRQ, Ordering::SeqCst);
    vcpu.timer(tsc_hz() / 2000)?;
    // SAFETY: a word of the vCPU's page.
    equal(u64::from(wait_for(|| unsafe { count.read_volatile() } == 1)), 1)?;
    let [_, trap, flags, pending, ..] = vcpu.state().linux;
    equal(trap, TRAP_IRQ)?;
    equal(flags, 0)?;
    equal(pending, PENDING_TIMER)?;
    equal(u64::from(vcpu.state().flags.load(Ordering::SeqCst)), u64::from(VCPU_EXC | VCPU_IRQ))?;
    vcpu.state().flags.store(VCPU_EXC, Ordering::SeqCst);
    Ok(())
}

fn wait(vcpu: &Vcpu) -> Outcome {
    let start = tsc();
    vcpu.timer(tsc_hz() / 100)?;
    raw(SYS_VCPU_RESUME, RESUME_WAIT, 0, [0; 4], 0)?;
    equal(vcpu.take_pending(), PENDING_TIMER)?;
    equal(u64::from(tsc() - start >= tsc_hz() / 100), 1)?;
    send(copy(vcpu.slot, RIGHT_ALL, 2)?, 0, [0; 4], 0)?;
    raw(SYS_VCPU_RESUME, RESUME_WAIT, 0, [0; 4], 0)?;
    equal(vcpu.take_pending(), 2)
}

fn map_item(vcpu: &Vcpu) -> Outcome {
    // mov rax, [0x900000]; syscall
    vcpu.context(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x90, 0, 0x0f, 0x05])?;
    equal(vcpu.run()?, 14)?;
    equal(vcpu.state().frame.address, 0x90_0000)?;
    equal(vcpu.state().frame.error, 4)?;
    let (_, at) = (vcpu.range, vcpu.state as u64 + 5 * 4096);
    // SAFETY: a page of the vCPU's Range, which items refer to.
    unsafe { (at as *mut u64).write_volatile(0xabcd) };
    let state = vcpu.state();
    state.items[0] = MapItem { address: 0x90_0000, offset: 5 * 4096, size: 4096, flags: MAP_READ | MAP_WRITE };
    state.item_count = 1;
    equal(vcpu.run()?, TRAP_SYSCALL)?;
    equal(vcpu.state().frame.regs.rax, 0xabcd)?;
    equal(vcpu.state().item_count, 0)?;
    vcpu.state().items[0].offset = 1 << 40;
    vcpu.state().item_count = 1;
    refused(vcpu.run(), Error::BadAddress)
}

fn no_task(vcpu: &Vcpu) -> Outcome {
    vcpu.context(&SPIN)?;
    vcpu.state().user_task = 0;
    refused(vcpu.run(), Error::NoCapability)?;
    vcpu.state().user_task = vcpu.slot;
    refused(vcpu.run(), Error::WrongType)?;
    refused(raw(SYS_VCPU_RESUME, 9, 0, [0; 4], 0), Error::BadArgument)
}

fn sanitised(vcpu: &Vcpu) -> Outcome {
    // pushfq; pop rax; syscall
    vcpu.context(&[0x9c, 0x58, 0x0f, 0x05])?;
    let regs = &mut vcpu.state().frame.regs;
    regs.rflags = 0x3000 | 0x4000 | 0x2_0000; // IOPL 3, NT, VM
    regs.cs = 8;
    regs.gs_base = 0x0123_4567_89ab_cdef; // not canonical
    equal(vcpu.run()?, TRAP_SYSCALL)?;
    equal(vcpu.state().frame.regs.rax & 0x2_7200, 0x200)?;
    equal(vcpu.state().frame.regs.gs_base, 0)?;
    for rip in [0xffff_ffff_8010_0000, 0x8000_0000_0000, 0x0123_4567_89ab_cdef] {
        vcpu.state().frame.regs.rip = rip;
        equal(vcpu.run()?, 14)?;
        equal(u64::from(vcpu.state().frame.address < 1 << 47), 1)?;
    }
    Ok(())
}

fn own_exception(vcpu: &Vcpu) -> Outcome {
    vcpu.state().linux = [0; 16];
    // SAFETY: vcpu_entry steps over it.
    unsafe { core::arch::asm!("ud2") };
    let [count, trap, flags, ..] = vcpu.state().linux;
    equal(count, 1)?;
    equal(trap, 6)?;
    equal(flags, 0)?;
    equal(u64::from(vcpu.state().flags.load(Ordering::SeqCst)), u64::from(VCPU_EXC))
}

/// Linux with an entry point that is not there.
extern "C" fn crash(_: u64) -> ! {
    // SAFETY: the vCPU's page; then an exception with VCPU_EXC clear.
    unsafe {
        (*(STATE.get() as *mut VcpuState)).flags.store(0, Ordering::SeqCst);
        core::arch::asm!("ud2");
    }
    loop {}
}

fn double_fault() -> Outcome {
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    start(0, endpoint, crash)?;
    let fault = receive(endpoint, reply)?;
    equal(fault.label(), abi::FAULT_LABEL)?;
    equal(fault.words[0], 6)
}

fn only_vcpus() -> Outcome {
    refused(raw(SYS_VCPU_RESUME, RESUME_WAIT, 0, [0; 4], 0), Error::BadMethod)?;
    refused(invoke(abi::ROOT_CAP_THREAD, abi::THREAD_TIMER, &[1]), Error::BadState)
}

fn only_signals(vcpu: &Vcpu) -> Outcome {
    let bell = copy(vcpu.slot, RIGHT_WRITE, 8)?;
    let range = RANGE.get();
    let methods = [
        (abi::OBJECT_NAME, [1, 1, 0, 0]),
        (abi::THREAD_CONFIGURE, [0, abi::ROOT_CAP_TASK, 0, 0]),
        (abi::THREAD_BIND, [abi::ROOT_CAP_CPU, 1, 0, 0]),
        (abi::THREAD_START, [0; 4]),
        (abi::THREAD_STOP, [0; 4]),
        (abi::THREAD_RESUME, [0; 4]),
        (abi::THREAD_CANCEL, [0; 4]),
        (abi::THREAD_VCPU, [range, 0, 0, 0]),
        (abi::THREAD_TIMER, [1, 0, 0, 0]),
        (abi::THREAD_DECOUPLE, [range, 0, bell, 0]),
        (abi::THREAD_RUN, [abi::ROOT_CAP_TASK, 0, 0, 0]),
        (abi::THREAD_WAKE, [0; 4]),
    ];
    for (method, words) in methods {
        refused(invoke(bell, method, &words), Error::NoRights)?;
    }
    send(bell, 0, [0; 4], 0)?;
    equal(vcpu.take_pending(), 8)?;
    // Nor does control alone signal.
    let control = copy(vcpu.slot, RIGHT_ALL & !RIGHT_WRITE, 16)?;
    refused(send(control, 0, [0; 4], 0), Error::NoRights)?;
    invoke(vcpu.slot, abi::THREAD_TIMER, &[0]).map(drop)?;
    Ok(())
}

fn remote_signal(vcpu: &Vcpu) -> Outcome {
    // The first core's assistant signals again and again; each must come through.
    vcpu.context(&SPIN)?;
    let badged = copy(vcpu.slot, RIGHT_ALL, 8)?;
    crate::support::thread(0, 50, 0, signal_often, badged)?;
    for _ in 0..200 {
        equal(vcpu.run()?, TRAP_IRQ)?;
        equal(vcpu.take_pending(), 8)?;
        TAKEN.set(TAKEN.get() + 1);
    }
    Ok(())
}

static TAKEN: Shared = Shared::new();

extern "C" fn signal_often(badged: u64) -> ! {
    let mut seen = u64::MAX;
    loop {
        if TAKEN.get() != seen {
            seen = TAKEN.get();
            let _ = send(badged, 0, [0; 4], 0);
        }
        core::hint::spin_loop();
    }
}
