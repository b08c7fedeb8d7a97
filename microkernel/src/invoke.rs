//! Methods of kernel objects: decode (check all, change nothing), then perform.
//!
//! The invoked capability is looked up once, by whoever calls [`invoke`]; all that the arguments name is looked up once, in
//! one hold of the caller's CSpace. A slot can change between two holds, since siblings of the caller share the CSpace: what
//! needs the slot of a capability again, to derive from it, takes it only if it still holds the same (`Parent`).

mod thread;

use core::sync::atomic::Ordering;

use abi::Error;

use crate::arch::{Registers, memory};
use crate::object::{
    CSpace, Capability, Cpu, Endpoint, Header, Held, IrqHandler, IrqSource, Kind, Machine, Notification, Object,
    Parent, Range, Recall, Ref, Reply, Target, Task, Thread, Untyped, claim_vector, create, create_child,
};
use crate::percore::{core, core_at, core_count};
use crate::{boot, get, log, panic, set};

/// MACHINE_GSI flags.
const IRQ_LEVEL: u64 = 1;
const IRQ_LOW: u64 = 2;

/// Revocation steps of one system call, at least; see [`CSpace::revoke_some`].
const REVOKE_STEPS: usize = 64;

/// Why a method was refused: the error, and the argument that it is about (`NO_ARGUMENT`: none of them).
pub struct Refusal {
    pub error: Error,
    pub argument: u64,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, argument: abi::NO_ARGUMENT }
    }
}

/// Says which argument an error is about.
trait Argument<T> {
    fn argument(self, index: u64) -> Result<T, Refusal>;
}

impl<T> Argument<T> for Result<T, Error> {
    #[inline]
    fn argument(self, index: u64) -> Result<T, Refusal> {
        self.map_err(|error| Refusal { error, argument: index })
    }
}

/// A method call of `thread`, which has the arguments in `regs` and gets the answer there.
struct Call<'a> {
    thread: &'a Thread,
    invoked: &'a Capability,
    regs: &'a Registers,
}

/// The answer is in the caller's registers.
pub struct Answered(());

impl<'a> Call<'a> {
    fn method(&self) -> u64 {
        self.regs.rsi.get() & 0xffff_ffff
    }

    fn words(&self) -> [u64; 4] {
        self.regs.words()
    }

    /// The method is done: words 0 and 1 of the answer. (A refusal leaves the arguments as they are: `trace` tells of them.)
    fn answer(&self, [first, second]: [u64; 2]) -> Result<Answered, Refusal> {
        self.regs.rax.set(0);
        self.regs.rdx.set(first);
        self.regs.r10.set(second);
        Ok(Answered(()))
    }

    fn cspace(&self) -> Result<&'a CSpace, Error> {
        self.thread.cspace()
    }

    /// To look up what the arguments name, once for all of them.
    fn operands(&self) -> Result<Held<'a>, Error> {
        Ok(self.cspace()?.hold())
    }

    /// What a new object is derived from: the invoked capability.
    fn parent(&self) -> Result<Parent<'a>, Error> {
        Ok(self.invoked.parent(self.cspace()?, self.regs.rdi.get()))
    }
}

/// Invoke a capability.
pub fn invoke(thread: &Thread, invoked: &Capability, regs: &Registers) -> Result<Answered, Refusal> {
    let call = Call { thread, invoked, regs };
    let object = &invoked.object;
    let kind = object.kind();
    if kind == Kind::Thread && invoked.rights & abi::RIGHT_CONTROL == 0 {
        return Err(Error::NoRights.into());
    }
    if call.method() == abi::OBJECT_NAME {
        let [first, second, ..] = call.words();
        object.set_name([first, second]);
        return call.answer([0; 2]);
    }
    match kind {
        Kind::Untyped => untyped(call, known(object)?),
        Kind::CSpace => cspace(call, known(object)?),
        Kind::Task => task(call, known(object)?),
        Kind::Thread => thread_method(call, known(object)?),
        Kind::IrqHandler => irq(call, known(object)?),
        Kind::Machine => machine(call, known(object)?),
        Kind::Log => log_method(call),
        Kind::Cpu if call.method() == abi::CPU_ID => call.answer([known::<Cpu>(object)?.index as u64, 0]),
        Kind::Range if call.method() == abi::RANGE_ADDRESS => call.answer(known::<Range>(object)?.extent()),
        _ => Err(Error::BadMethod.into()),
    }
}

#[inline(never)] // what it needs of the stack, the others' calls do without
fn thread_method(call: Call, thread: &Ref<Thread>) -> Result<Answered, Refusal> {
    thread::Method::decode(&call)?.perform(thread)?;
    call.answer([0; 2])
}

/// An object as what its kind says it is.
fn known<T: Object>(object: &Ref<Header>) -> Result<&Ref<T>, Error> {
    object.downcast_ref().ok_or(Error::WrongType)
}

fn untyped(call: Call, untyped: &Ref<Untyped>) -> Result<Answered, Refusal> {
    match call.method() {
        abi::UNTYPED_FREE => call.answer([untyped.free_bytes(), 0]),
        abi::UNTYPED_RETYPE => {
            let [kind, size, slot, _] = call.words();
            let space = call.cspace()?;
            space.check_empty(slot).argument(2)?;
            let object = make(untyped, kind, size)?;
            space.insert_new(slot, object, Some(call.parent()?)).argument(2)?;
            call.answer([0; 2])
        }
        _ => Err(Error::BadMethod.into()),
    }
}

#[inline(never)] // as `thread_method`: a new Thread is made on the stack
fn make(payer: &Ref<Untyped>, kind: u64, size: u64) -> Result<Ref<Header>, Refusal> {
    Ok(match kind {
        abi::KIND_UNTYPED | abi::KIND_RANGE if size == 0 || size > 1 << 32 => Err(Error::BadArgument).argument(1)?,
        abi::KIND_UNTYPED => create_child(payer, size).argument(1)?.any(),
        abi::KIND_RANGE => Range::create(payer, size).argument(1)?.any(),
        abi::KIND_CSPACE => CSpace::create(payer, size).argument(1)?.any(),
        abi::KIND_TASK => Task::create(payer)?.any(),
        abi::KIND_THREAD => create(payer, Thread::new)?.any(),
        abi::KIND_ENDPOINT => create(payer, Endpoint::new)?.any(),
        abi::KIND_REPLY => create(payer, Reply::new)?.any(),
        abi::KIND_NOTIFICATION => create(payer, Notification::new)?.any(),
        _ => Err(Error::BadArgument).argument(0)?,
    })
}

fn cspace(call: Call, space: &CSpace) -> Result<Answered, Refusal> {
    let [a, b, rights, badge] = call.words();
    match call.method() {
        abi::CSPACE_COPY => space.copy_from(space, a, b, rights, badge).map_err(of_copy)?,
        abi::CSPACE_PUT => space.copy_from(call.cspace()?, a, b, rights, badge).map_err(of_copy)?,
        abi::CSPACE_MOVE => space.move_within(a, b).map_err(of_copy)?,
        abi::CSPACE_DELETE => space.delete(a).argument(0)?,
        abi::CSPACE_REVOKE => revoke(call.thread, space, a)?,
        _ => return Err(Error::BadMethod.into()),
    }
    call.answer([0; 2])
}

#[inline(never)]
fn revoke(thread: &Thread, space: &CSpace, slot: u64) -> Result<(), Refusal> {
    let done = space.revoke_some(slot, REVOKE_STEPS.max(4 * core_count())).argument(0)?;
    let (object, depth) = done.ok_or(Error::Cancelled)?; // more to do; interrupts had their turn
    if let Ok(range) = object.downcast::<Range>() {
        thread.recall.set(Some(Recall::new(range, depth)));
        core().reschedule.store(true, Ordering::Relaxed); // `leave` sees to it before the thread goes on
    }
    Ok(())
}

/// Which argument of a copy or move an error is about: source, destination, badge.
#[cold]
fn of_copy(error: Error) -> Refusal {
    let argument = match error {
        Error::NoCapability => 0,
        Error::Occupied | Error::BadArgument => 1,
        _ => 3,
    };
    Refusal { error, argument }
}

fn task(call: Call, task: &Task) -> Result<Answered, Refusal> {
    let [a, b, c, d] = call.words();
    match call.method() {
        abi::TASK_MAP => {
            let flags = call.thread.message_word(4);
            let source = || {
                let operands = call.operands()?;
                let (range, depth) = operands.object::<Range>(a, rights_to_map(flags)).argument(0)?;
                range.source(depth, b, d, flags).map_err(of_source)
            };
            task.map(c, d, source).map_err(of_map)?;
        }
        abi::TASK_UNMAP => {
            task.unmap(a, b).argument(0)?;
            return call.answer([task.table_count(), 0]);
        }
        abi::TASK_TABLES => return call.answer([task.table_count(), 0]),
        _ => return Err(Error::BadMethod.into()),
    }
    call.answer([0; 2])
}

/// Which argument of TASK_MAP an error about the memory is about.
#[cold]
fn of_source(error: Error) -> Refusal {
    Refusal { error, argument: if error == Error::BadAddress { 1 } else { 4 } }
}

/// ... and one about the address.
#[cold]
fn of_map(Refusal { error, argument }: Refusal) -> Refusal {
    let about_address = error == Error::BadAddress && argument == abi::NO_ARGUMENT;
    Refusal { error, argument: if about_address { 2 } else { argument } }
}

/// Rights to a Range that a mapping with these flags takes.
fn rights_to_map(flags: u64) -> u64 {
    let needs = [(abi::MAP_WRITE, abi::RIGHT_WRITE), (abi::MAP_EXEC, abi::RIGHT_EXEC)];
    needs.iter().filter(|(flag, _)| flags & flag != 0).fold(abi::RIGHT_READ, |rights, (_, right)| rights | right)
}

fn irq(call: Call, handler: &IrqHandler) -> Result<Answered, Refusal> {
    match call.method() {
        abi::IRQ_BIND => {
            let target = call.operands()?.take_any(call.words()[0], abi::RIGHT_WRITE);
            handler.bind(target.and_then(Target::new).argument(0)?)
        }
        abi::IRQ_ACK => handler.acknowledge(),
        abi::IRQ_MSI => return call.answer(handler.message()?),
        _ => return Err(Error::BadMethod.into()),
    }
    call.answer([0; 2])
}

#[inline(never)] // as `thread_method`
fn machine(call: Call, machine: &Machine) -> Result<Answered, Refusal> {
    let [a, b, c, d] = call.words();
    let space = call.cspace()?;
    let payer = &machine.reserve;
    match call.method() {
        abi::MACHINE_MSI => {
            space.check_empty(b).argument(1)?;
            let core = core_at(a as usize).ok_or(Error::BadArgument).argument(0)?;
            insert_handler(&call, b, claim_vector(core, IrqSource::Msi, payer)?)?;
        }
        abi::MACHINE_GSI => {
            space.check_empty(c).argument(2)?;
            let core = core_at(b as usize).ok_or(Error::BadArgument).argument(1)?;
            let gsi = u32::try_from(a).map_err(|_| Error::BadArgument).argument(0)?;
            let (level, low) = (d & IRQ_LEVEL != 0, d & IRQ_LOW != 0);
            let handler = claim_vector(core, IrqSource::Pin { gsi, level }, payer)?;
            if !handler.route(low) {
                handler.orphaned();
                return Err(Error::BadArgument).argument(0);
            }
            insert_handler(&call, c, handler)?;
        }
        abi::MACHINE_DEVICE => {
            space.check_empty(c).argument(2)?;
            let bytes = b.checked_mul(4096).filter(|&n| n > 0).ok_or(Error::BadArgument).argument(1)?;
            let end = a.checked_add(bytes).ok_or(Error::BadAddress).argument(0)?;
            if a % 4096 != 0 || end > 1 << 52 || boot::overlaps_ram(a..end) {
                return Err(Error::BadAddress).argument(0);
            }
            let range = create(payer, |h| Range::new_borrowed(h, a, bytes, true))?;
            space.insert_new(c, range.any(), Some(call.parent()?))?;
        }
        #[cfg(feature = "check")]
        kcore::check::MACHINE_CHECK => return call.answer(crate::check::run(a != 0)),
        abi::MACHINE_EXIT => {
            if a > 127 {
                return Err(Error::BadArgument).argument(0);
            }
            panic::exit(a as u32)
        }
        _ => return Err(Error::BadMethod.into()),
    }
    call.answer([0; 2])
}

/// Give the first capability to a new IrqHandler; where that fails, the handler has no use for its vector.
fn insert_handler(call: &Call, slot: u64, handler: Ref<IrqHandler>) -> Result<(), Error> {
    let inserted = call.cspace()?.insert_new(slot, handler.clone().any(), Some(call.parent()?));
    if inserted.is_err() {
        handler.orphaned();
    }
    inserted
}

fn log_method(call: Call) -> Result<Answered, Refusal> {
    let page = call.thread.message().ok_or(Error::BadState)?;
    let mut bytes = [0u8; abi::LOG_BYTES];
    match call.method() {
        abi::LOG_WRITE => {
            let length = call.words()[0] as usize;
            let target = bytes.get_mut(..length).ok_or(Error::TooLong).argument(0)?;
            for (i, part) in target.chunks_mut(8).enumerate() {
                part.copy_from_slice(&get!(page.words[4 + i]).to_le_bytes()[..part.len()]);
            }
            log::write(target);
            call.answer([0; 2])
        }
        abi::LOG_READ => {
            let (length, position) = log::read(call.words()[0], &mut bytes);
            for (i, part) in bytes[..length.next_multiple_of(8)].chunks_exact(8).enumerate() {
                set!(page.words[4 + i] = u64::from_le_bytes(part.try_into().expect("8 bytes")));
            }
            call.answer([length as u64, position])
        }
        _ => Err(Error::BadMethod.into()),
    }
}

const _: () = assert!(4 * 8 + abi::LOG_BYTES <= abi::MSG_WORDS * 8);
const _: () = assert!(memory::DIRECT_BYTES <= 1 << 52);
