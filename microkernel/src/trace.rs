//! With `tacet.trace` on the command line: one line for each refused system call, with object, argument and reason. Off by
//! default, since a refusal can be all that the caller wanted to know.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Error;

use crate::arch::Registers;
use crate::klog;
use crate::object::{Kind, Thread};

/// The word of the command line that turns it on.
pub const OPTION: &[u8] = b"tacet.trace";

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Look for [`OPTION`] in the command line.
pub fn init(cmdline: &[u8]) {
    ENABLED.store(crate::boot::has_word(cmdline, OPTION), Ordering::Relaxed);
}

#[inline]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Log a refusal. `regs` are still those of the call.
#[cold]
pub fn refused(thread: &Thread, regs: &Registers, error: Error, argument: u64) {
    let words = [regs.rdx.get(), regs.r10.get(), regs.r8.get(), regs.r9.get(), thread.message_word(4)];
    let object = Named(thread, regs.rdi.get());
    let (tag, reply) = (regs.rsi.get(), regs.rbx.get());
    let tell = |call: fmt::Arguments| klog!("refused: {error:?}: thread {}: {call}", thread.name());
    match regs.rax.get() {
        abi::SYS_CALL => {
            let called = Method(tag & 0xffff_ffff);
            match words.get(argument as usize) {
                Some(word) => tell(format_args!("{called} on {object}: argument {argument} is {word:#x}")),
                None => tell(format_args!("{called} on {object}: {words:x?}")),
            }
        }
        abi::SYS_REPLY_RECV => tell(format_args!("REPLY_RECV on {object}, Reply in slot {reply}")),
        abi::SYS_SEND => tell(format_args!("SEND on {object}, tag {tag:#x}")),
        abi::SYS_RECV => tell(format_args!("RECV on {object}, Reply in slot {reply}")),
        abi::SYS_VCPU_RESUME => tell(format_args!("VCPU_RESUME, operation {:#x}", regs.rdi.get())),
        number => tell(format_args!("there is no system call {number:#x}")),
    }
}

/// What a slot of a thread's CSpace names.
struct Named<'a>(&'a Thread, u64);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.cspace().and_then(|space| space.hold().take_any(self.1, 0)) {
            Ok(capability) => {
                let kind: Kind = capability.object.kind();
                write!(f, "{kind:?} {} in slot {}, rights {:#x}", capability.object.name(), self.1, capability.rights)
            }
            Err(_) => write!(f, "slot {:#x}, which names nothing", self.1),
        }
    }
}

struct Method(u64);

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        macro_rules! names {
            ($($name:ident)*) => {
                match self.0 {
                    $(abi::$name => f.write_str(stringify!($name)),)*
                    number => write!(f, "method {number:#x}"),
                }
            };
        }
        names!(
            UNTYPED_RETYPE UNTYPED_FREE CSPACE_COPY CSPACE_DELETE CSPACE_REVOKE CSPACE_PUT CSPACE_MOVE TASK_MAP
            TASK_UNMAP TASK_TABLES OBJECT_NAME THREAD_CONFIGURE THREAD_BIND THREAD_START THREAD_STOP THREAD_RESUME THREAD_VCPU
            THREAD_TIMER THREAD_DECOUPLE THREAD_RUN THREAD_WAKE THREAD_CANCEL IRQ_BIND IRQ_ACK IRQ_MSI MACHINE_MSI
            MACHINE_GSI MACHINE_DEVICE MACHINE_EXIT LOG_WRITE LOG_READ RANGE_ADDRESS CPU_ID
        )
    }
}
