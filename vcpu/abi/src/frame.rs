//! Pages that the kernel shares with user level: message page, vCPU state, decoupled frame.
//!
//! All are 4 KiB, page aligned, and lie in a Range; the kernel reaches them through its own mapping. What user level
//! writes there is never trusted: the kernel checks each register when it loads it.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// The registers of a user context, in the order and size of Linux's `struct user_regs_struct` (x86-64), 27 words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// At a [`TRAP_SYSCALL`]: the system call number (`rax` also still holds it). Else -1.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    /// Loaded with only the status, direction, trap, alignment-check and ID flags; IF is always set.
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Registers and the reason why they were saved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrapFrame {
    /// CPU exception vector 0..31, or one of the TRAP_* values. (First, so that the CPU's own push of an interrupt frame
    /// into `regs` is 16-byte aligned.)
    pub trapno: u64,
    pub regs: Regs,
    /// The CPU's error code, or 0.
    pub error: u64,
    /// CR2 at a page fault (vector 14), else 0.
    pub address: u64,
}

/// The SYSCALL instruction: rip points behind it, rcx and r11 hold rip and rflags as the CPU left them.
pub const TRAP_SYSCALL: u64 = 0x100;
/// An interrupt: look at `pending`.
pub const TRAP_IRQ: u64 = 0x101;
/// A decoupled thread was asked to stop (THREAD_STOP).
pub const TRAP_STOP: u64 = 0x102;
/// The answer to a decoupled thread, or a map item of a resume, was refused; `error` is the [`crate::Error`].
pub const TRAP_REFUSED: u64 = 0x103;

/// One mapping to make (or, with MAP_UNMAP, to take away) in the user Task before it runs on.
/// Offsets are into the Range that the VcpuState or DecoupledFrame itself lies in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapItem {
    pub address: u64,
    pub offset: u64,
    /// Bytes, a multiple of 4 KiB.
    pub size: u64,
    /// MAP_* flags.
    pub flags: u64,
}

/// Most map items of one resume or answer.
pub const MAP_ITEMS: usize = 16;

/// `VcpuState::flags`: interrupts are delivered as upcalls. Linux's virtual interrupt flag.
pub const VCPU_IRQ: u32 = 1;
/// `VcpuState::flags`: exceptions in kernel mode are delivered as upcalls. Cleared at an upcall from kernel mode; the
/// entry code sets it again once the frame is safe on its stack. An exception while it is clear is a double fault: the
/// vCPU stops and the fault goes to its fault endpoint.
pub const VCPU_EXC: u32 = 2;
/// `VcpuState::saved_flags` only: the upcall came from the user context, not from Linux's own code.
pub const VCPU_USER: u32 = 4;

/// Bit of `pending`: the THREAD_TIMER deadline passed.
pub const PENDING_TIMER: u64 = 1 << 63;

/// A vCPU's page. GS base in kernel mode is `entry_gs`, set by the kernel at every upcall, but 0 after THREAD_START.
///
/// The frame serves both kinds of upcall: Linux fills it for RESUME_USER with VCPU_IRQ clear.
/// Upcall from the user context: frame = user registers, `saved_flags = flags | VCPU_USER`, `flags &= !VCPU_IRQ`,
/// rip = `entry_ip`, rsp = `entry_sp`.
/// Upcall from kernel mode (interrupt while VCPU_IRQ, or an exception): frame = interrupted registers,
/// `saved_flags = flags`, `flags &= !(VCPU_IRQ | VCPU_EXC)`, rip = `entry_ip`, rsp unchanged.
/// Return from an upcall from kernel mode is Linux's own affair (restore registers, POPFQ, RET): no system call. (Not
/// IRETQ: QEMU 7.2 executes it in user mode with supervisor accesses, which SMAP forbids.)
/// After setting VCPU_IRQ, Linux must look at `pending` and handle it itself where it is not zero.
#[repr(C)]
pub struct VcpuState {
    pub frame: TrapFrame,
    /// VCPU_IRQ | VCPU_EXC. Written by Linux at any time.
    pub flags: AtomicU32,
    pub saved_flags: u32,
    /// Signalled badges, OR-ed in by the kernel, taken by Linux with an atomic exchange.
    pub pending: AtomicU64,
    pub entry_ip: u64,
    pub entry_sp: u64,
    pub entry_gs: u64,
    /// Task slot for RESUME_USER.
    pub user_task: u64,
    /// Number of valid `items`; the kernel sets it to 0 when it has applied them.
    pub item_count: u64,
    pub items: [MapItem; MAP_ITEMS],
    /// Free for Linux.
    pub linux: [u64; 16],
}

/// `DecoupledFrame::state`: no user context is bound; Linux may fill the frame and call THREAD_RUN.
pub const FRAME_IDLE: u32 = 0;
/// The user context runs on the compute core; the frame's registers are stale.
pub const FRAME_RUNNING: u32 = 1;
/// The user context trapped; the frame is complete and belongs to Linux. The extended state is still in the core: see
/// [`ANSWER_SAVE`].
pub const FRAME_TRAPPED: u32 = 2;
/// Linux wrote its answer; the frame belongs to the kernel.
pub const FRAME_ANSWERED: u32 = 3;

/// `DecoupledFrame::answer`: also load the extended state from `xsave`.
pub const ANSWER_XSTATE: u32 = 1;
/// `DecoupledFrame::answer`: do not run on; the core becomes idle, `state` becomes FRAME_IDLE.
pub const ANSWER_DETACH: u32 = 2;
/// `DecoupledFrame::answer`: write the extended state into `xsave`. Alone it answers nothing: `state` becomes FRAME_TRAPPED
/// again, without a doorbell, and nothing else in the frame is read or written. With ANSWER_DETACH it comes before that.
pub const ANSWER_SAVE: u32 = 4;

/// A decoupled thread's page.
///
/// Trap: the compute core writes `frame`, then state = FRAME_TRAPPED, then signals the doorbell.
/// Answer: Linux writes `frame.regs`, `answer`, items and item_count, then state = FRAME_ANSWERED (atomic exchange or a
/// store followed by a full fence), then, if `sleeping` is not 0, calls THREAD_WAKE.
/// Extended state: stays in the core's registers from one trap to the next. Linux gets it by an answer with ANSWER_SAVE, and
/// sets it by one with ANSWER_XSTATE; the first run after THREAD_RUN always loads it, whatever `answer` says.
/// The core sets sleeping = 1 before it halts and looks at `state` once more after that.
#[repr(C)]
pub struct DecoupledFrame {
    pub frame: TrapFrame,
    pub state: AtomicU32,
    pub sleeping: AtomicU32,
    pub answer: u32,
    pub reserved: u32,
    pub item_count: u64,
    pub items: [MapItem; MAP_ITEMS],
    /// TSC when the trap entered the kernel.
    pub trap_tsc: u64,
    /// Free for Linux.
    pub linux: [u64; 16],
    pub pad: [u64; 14],
    /// Extended state in the standard XSAVE format, 64-byte aligned (offset 0x400), at most 3072 bytes.
    pub xsave: [u8; 3072],
}

/// A native thread's page for message words 4 and up and for capability transfer.
#[repr(C)]
pub struct MessagePage {
    /// Word i of a message; 0 to 3 travel in registers and are not used here.
    pub words: [u64; super::MSG_WORDS],
    /// Sender: handle of the capability to transfer. Receiver: free slot for one.
    pub cap: u64,
}

const _: () = assert!(core::mem::size_of::<Regs>() == 27 * 8);
const _: () = assert!(core::mem::size_of::<TrapFrame>() == 240);
const _: () = assert!(core::mem::size_of::<VcpuState>() <= 0x400 + 128);
const _: () = assert!(core::mem::offset_of!(DecoupledFrame, xsave) == 0x400);
const _: () = assert!(core::mem::size_of::<DecoupledFrame>() == 4096);
