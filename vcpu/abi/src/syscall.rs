//! System calls, messages, objects and their methods.
//!
//! Register convention (SYSCALL instruction; rcx and r11 are destroyed, all registers not named are preserved):
//!
//! | register | in | out |
//! |---|---|---|
//! | rax | system call number | 0 or a negated [`crate::Error`] |
//! | rdi | capability handle | badge (receive) |
//! | rsi | message tag: see [`tag`] | message tag |
//! | rdx r10 r8 r9 | message words 0 to 3 | message words 0 to 3 |
//! | rbx | Reply capability ([`SYS_REPLY_RECV`], [`SYS_RECV`]) | preserved |
//!
//! Message words 4 and up are in the thread's message page ([`crate::MessagePage`]).

/// Send a message and wait for the answer; on a kernel object: invoke the method `label` of the tag.
pub const SYS_CALL: u64 = 0;
/// Answer through the Reply in rbx, then receive on the endpoint in rdi.
pub const SYS_REPLY_RECV: u64 = 1;
/// Endpoint: send without waiting for an answer. Notification or vCPU: signal (OR the capability's badge).
pub const SYS_SEND: u64 = 2;
/// Receive on an endpoint or notification; with [`TAG_POLL`] it does not wait.
pub const SYS_RECV: u64 = 3;
/// Only on a vCPU, in kernel mode. rdi = [`RESUME_USER`] or [`RESUME_WAIT`].
pub const SYS_VCPU_RESUME: u64 = 4;

/// [`SYS_VCPU_RESUME`]: apply the map items, then run the user context in `VcpuState::frame` in Task `user_task`.
/// Does not return: the next trap or interrupt enters Linux at `entry_ip` with `entry_sp`.
pub const RESUME_USER: u64 = 0;
/// [`SYS_VCPU_RESUME`]: wait until `VcpuState::pending` is not zero; returns 0 at the instruction after SYSCALL, without
/// an upcall, whatever the interrupt flag says.
pub const RESUME_WAIT: u64 = 1;

/// Bit 63 of a tag: do not wait.
pub const TAG_POLL: u64 = 1 << 63;

/// A tag: method or protocol label in bits 0..32, number of words in bits 32..40, number of capabilities (0 or 1) in
/// bits 40..44. The transferred capability's handle (sender) or receive slot (receiver) is `MessagePage::cap`.
pub const fn tag(label: u64, words: u64, caps: u64) -> u64 {
    (label & 0xffff_ffff) | (words & 0xff) << 32 | (caps & 0xf) << 40
}

/// Most words of one message.
pub const MSG_WORDS: usize = 64;

// Object kinds, argument of UNTYPED_RETYPE.
pub const KIND_UNTYPED: u64 = 1;
pub const KIND_CSPACE: u64 = 2;
pub const KIND_TASK: u64 = 3;
pub const KIND_THREAD: u64 = 4;
pub const KIND_ENDPOINT: u64 = 5;
pub const KIND_REPLY: u64 = 6;
pub const KIND_NOTIFICATION: u64 = 7;
pub const KIND_IRQ_HANDLER: u64 = 8;
pub const KIND_CPU: u64 = 9;
/// Contiguous memory (RAM or device) that can be mapped into Tasks.
pub const KIND_RANGE: u64 = 10;
/// The machine: makes IrqHandlers and device Ranges, ends the run. Held by the root task.
pub const KIND_MACHINE: u64 = 11;
/// The kernel log.
pub const KIND_LOG: u64 = 12;

// Capability rights, argument of CSPACE_COPY. A copy has at most the rights of its source.
pub const RIGHT_READ: u64 = 1;
pub const RIGHT_WRITE: u64 = 2;
pub const RIGHT_GRANT: u64 = 4;
pub const RIGHT_EXEC: u64 = 8;
/// Thread: to call its methods (which takes RIGHT_WRITE, too). With RIGHT_WRITE alone one may only signal it, where it is a
/// vCPU.
pub const RIGHT_CONTROL: u64 = 16;
pub const RIGHT_ALL: u64 = 31;

// Methods. Arguments are message words 0, 1, 2, ...; a result, where there is one, is word 0 (and 1) of the answer. Of a
// refused call, word 0 is the number of the argument that the error is about, or [`NO_ARGUMENT`].

/// Word 0 of a refused method call: the error is about the invoked object, or no argument in particular.
pub const NO_ARGUMENT: u64 = u64::MAX;

/// Untyped: (kind, size, destination slot). size: pages for Untyped and Range, slots for CSpace, else 0. The pages of
/// a Range are physically contiguous, and aligned to 2 MiB where it has at least 512 pages. On
/// [`crate::Error::Cancelled`] there is more memory to wipe than one call does, call again.
pub const UNTYPED_RETYPE: u64 = 1;
/// Untyped: () -> free bytes.
pub const UNTYPED_FREE: u64 = 2;

/// CSpace: (source slot, destination slot, rights, badge) copies within the invoked CSpace. badge 0 keeps the
/// source's; a badge can be set once. A Cpu capability's badge is its ceiling, the highest priority that it gives (without
/// one: every priority): it can be set again, lower.
pub const CSPACE_COPY: u64 = 16;
/// CSpace: (slot). The last capability of an object destroys it and returns its memory.
pub const CSPACE_DELETE: u64 = 17;
/// CSpace: (slot) deletes all capabilities derived from it, a bounded number at a time: on [`crate::Error::Cancelled`]
/// there is more to do, call again.
pub const CSPACE_REVOKE: u64 = 18;
/// CSpace: (slot in the caller's CSpace, destination slot in the invoked CSpace, rights, badge).
pub const CSPACE_PUT: u64 = 19;
/// CSpace: (source slot, destination slot) within the invoked CSpace.
pub const CSPACE_MOVE: u64 = 20;

/// Task: (range slot, offset, address, size, MAP_* flags). Bytes, 4 KiB aligned; uses 2 MiB pages where all allows.
/// Replaces what was mapped there (no flush where nothing was). On [`crate::Error::NoMemory`] nothing has changed.
pub const TASK_MAP: u64 = 32;
/// Task: (address, size) -> page tables that the Task has left. When it returns, no core can reach the pages any more, and
/// page tables that became empty are back in the Untyped that paid for the Task.
pub const TASK_UNMAP: u64 = 33;
/// Task: () -> page tables that the Task has, without its root.
pub const TASK_TABLES: u64 = 35;
/// Task: (name words 0..2) sets the debug name.
pub const OBJECT_NAME: u64 = 34;

// Flags of a mapping.
pub const MAP_READ: u64 = 1;
pub const MAP_WRITE: u64 = 2;
pub const MAP_EXEC: u64 = 4;
/// MapItem only: unmap instead.
pub const MAP_UNMAP: u64 = 8;

/// Thread: (CSpace slot or 0, Task slot, message Range slot, offset of the MessagePage, fault Endpoint slot or 0).
pub const THREAD_CONFIGURE: u64 = 48;
/// Thread: (Cpu slot, priority 0..255, at most the Cpu capability's ceiling). Binds the thread to the core; it must not be
/// running. When the Cpu capability is
/// revoked, with what was derived from the same one, the thread ends.
pub const THREAD_BIND: u64 = 49;
/// Thread: (instruction pointer, stack pointer, argument in rdi) starts it.
pub const THREAD_START: u64 = 50;
/// Thread: () stops it where it is; a decoupled thread traps with [`crate::TRAP_STOP`] instead.
pub const THREAD_STOP: u64 = 51;
/// Thread: () continues after THREAD_STOP.
pub const THREAD_RESUME: u64 = 52;
/// Thread: (Range slot, offset of the VcpuState) makes it a vCPU. Signals to its capability arrive in `pending`.
pub const THREAD_VCPU: u64 = 53;
/// vCPU: (deadline, absolute TSC; 0 cancels). On expiry [`crate::PENDING_TIMER`] is set in `pending`.
pub const THREAD_TIMER: u64 = 54;
/// Thread: (Range slot, offset of the DecoupledFrame, doorbell capability slot: vCPU or Notification, badged) makes it
/// decoupled. It must be bound to a core and not be running.
pub const THREAD_DECOUPLE: u64 = 55;
/// Decoupled thread: (Task slot) starts it in that Task with the registers and extended state of its frame. The
/// frame's `state` must be FRAME_IDLE.
pub const THREAD_RUN: u64 = 56;
/// Decoupled thread: () wakes the core that sleeps (`sleeping` was set) in its wait for the answer.
pub const THREAD_WAKE: u64 = 57;
/// Thread: () ends its wait in a call, send or receive: that returns [`crate::Error::Cancelled`]. BadState: it does not wait.
pub const THREAD_CANCEL: u64 = 58;

/// IrqHandler: (capability slot: badged vCPU or Notification) what an interrupt signals.
pub const IRQ_BIND: u64 = 80;
/// IrqHandler: () unmasks after handling (MSI: no effect but counts).
pub const IRQ_ACK: u64 = 81;
/// IrqHandler: () -> (MSI address, MSI data) for the device.
pub const IRQ_MSI: u64 = 82;

/// Machine: (core, destination slot) makes an IrqHandler for a free MSI vector of that core.
pub const MACHINE_MSI: u64 = 96;
/// Machine: (global system interrupt, core, destination slot, IRQ_LEVEL | IRQ_LOW flags) makes one for an IOAPIC pin.
pub const MACHINE_GSI: u64 = 97;
/// Machine: (physical address, pages, destination slot) makes a device Range; refused where RAM is.
pub const MACHINE_DEVICE: u64 = 98;
/// Machine: (status 0..127) ends the run: QEMU exits with `status * 2 + 1`.
pub const MACHINE_EXIT: u64 = 99;

/// Log: (length), bytes in `MessagePage::words[4..]`; at most [`LOG_BYTES`].
pub const LOG_WRITE: u64 = 112;
/// Log: (position) -> (bytes given, new position), bytes in `MessagePage::words[4..]`; reads the kernel's log ring.
pub const LOG_READ: u64 = 113;
/// Most bytes of one LOG_WRITE or LOG_READ.
pub const LOG_BYTES: usize = 480;

/// Range: () -> (physical address, bytes).
pub const RANGE_ADDRESS: u64 = 144;

/// Cpu: () -> core number.
pub const CPU_ID: u64 = 128;

// Messages of Linux to the root task, labels on its endpoint.
/// (status) Linux shut down in order.
pub const ROOT_POWEROFF: u64 = 1;
/// () Linux wants to be started anew.
pub const ROOT_REBOOT: u64 = 2;
/// () Linux panicked; the reason is in the log.
pub const ROOT_PANIC: u64 = 3;

/// Label of a fault message to a thread's fault endpoint: words are trapno, error, address, rip, rsp.
pub const FAULT_LABEL: u64 = 0x8000_0000;
