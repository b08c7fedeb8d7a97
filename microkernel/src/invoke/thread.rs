//! Methods of threads.

use core::sync::atomic::Ordering;

use abi::{Error, Regs};
use kcore::handshake;

use super::{Argument, Call, Refusal};
use crate::percore::{self, Peer};
use kobj::Sleeper;

use crate::object::{CSpace, Cpu, Endpoint, Parent, Place, Range, Ref, Target, Task, Thread, ThreadKind};
use crate::{decoupled, sched};

/// Rights to the Range of a message page: the thread reads and writes it, through the kernel.
const MESSAGE_RIGHTS: u64 = abi::RIGHT_READ | abi::RIGHT_WRITE;
/// Rights to the Range of a vCPU's or decoupled thread's page: map items name any part of it, with any flags.
const SHARED_RIGHTS: u64 = abi::RIGHT_READ | abi::RIGHT_WRITE | abi::RIGHT_EXEC;

/// A method with all that it needs.
pub enum Method<'a> {
    Configure {
        cspace: Option<Ref<CSpace>>,
        task: Ref<Task>,
        message: Option<Place<'a>>,
        fault: Option<(Ref<Endpoint>, u64)>,
    },
    Bind {
        core: &'static Peer,
        priority: u8,
        by: Parent<'a>,
    },
    Start(Regs),
    Stop,
    Resume,
    Cancel,
    Vcpu(Place<'a>),
    Timer {
        deadline: u64,
    },
    Decouple {
        place: Place<'a>,
        doorbell: Target,
    },
    Run(Ref<Task>),
    Wake,
}

impl<'a> Method<'a> {
    pub fn decode(call: &Call<'a>) -> Result<Self, Refusal> {
        let [a, b, c, d] = call.words();
        let operands = call.operands()?;
        let page_of = |slot, rights, offset| -> Result<Place, Error> {
            let range = operands.take::<Range>(slot, rights)?;
            Ok(Place { by: Some(range.parent(call.cspace()?, slot)), range: range.object, offset })
        };
        Ok(match call.method() {
            abi::THREAD_CONFIGURE => {
                let cspace = optional(a, |slot| operands.take(slot, abi::RIGHT_WRITE)).argument(0)?;
                let task = operands.take(b, abi::RIGHT_WRITE).argument(1)?.object;
                let message = optional(c, |slot| page_of(slot, MESSAGE_RIGHTS, d)).argument(2)?;
                let fault = call.thread.message_word(4);
                let fault = optional(fault, |slot| operands.take(slot, abi::RIGHT_WRITE)).argument(4)?;
                Self::Configure {
                    cspace: cspace.map(|cspace| cspace.object),
                    task,
                    message,
                    fault: fault.map(|fault| (fault.object, fault.badge)),
                }
            }
            abi::THREAD_BIND => {
                let cpu = operands.take::<Cpu>(a, abi::RIGHT_WRITE).argument(0)?;
                let priority = u8::try_from(b).map_err(|_| Error::BadArgument).argument(1)?;
                if cpu.badge != 0 && b > cpu.badge {
                    return Err(Error::NoRights).argument(1);
                }
                Self::Bind { core: cpu.object.core(), priority, by: cpu.parent(call.cspace()?, a) }
            }
            abi::THREAD_START => Self::Start(Regs { rip: a, rsp: b, rdi: c, ..Regs::default() }),
            abi::THREAD_STOP => Self::Stop,
            abi::THREAD_RESUME => Self::Resume,
            abi::THREAD_CANCEL => Self::Cancel,
            abi::THREAD_VCPU => Self::Vcpu(page_of(a, SHARED_RIGHTS, b).argument(0)?),
            abi::THREAD_TIMER => Self::Timer { deadline: a },
            abi::THREAD_DECOUPLE => Self::Decouple {
                place: page_of(a, SHARED_RIGHTS, b).argument(0)?,
                doorbell: operands.take_any(c, abi::RIGHT_WRITE).and_then(Target::new).argument(2)?,
            },
            abi::THREAD_RUN => Self::Run(operands.take(a, abi::RIGHT_WRITE).argument(0)?.object),
            abi::THREAD_WAKE => Self::Wake,
            _ => return Err(Error::BadMethod.into()),
        })
    }

    pub fn perform(self, thread: &Ref<Thread>) -> Result<(), Refusal> {
        match self {
            Self::Configure { cspace, task, message, fault } => {
                thread.set_spaces(cspace, task, message, fault).map_err(|error| Refusal {
                    error,
                    argument: match error {
                        Error::NoCapability => 2,
                        Error::BadAddress => 3,
                        _ => abi::NO_ARGUMENT,
                    },
                })?;
            }
            Self::Bind { core, priority, by } => {
                thread.bind(core.index, priority, Some(by)).map_err(only(Error::NoCapability, 0))?;
            }
            Self::Start(regs) => {
                thread.start(regs)?;
                sched::wake(thread.clone());
            }
            Self::Stop => {
                handshake::request_stop(thread.requests());
                poke_home(thread);
            }
            Self::Resume => {
                if thread.rest.state.go_on(thread.requests()) {
                    sched::wake(thread.clone());
                }
            }
            Self::Cancel => {
                if !thread.cancel(Error::Cancelled) {
                    return Err(Error::BadState.into());
                }
            }
            Self::Vcpu(place) => {
                let register = || match thread.core() {
                    Some(core) if sched::add_vcpu(core, thread) => Ok(()),
                    _ => Err(Error::Busy),
                };
                thread.share(ThreadKind::Vcpu, place, register).map_err(only(Error::BadAddress, 1))?;
                if thread.is_dead()
                    && let Some(core) = thread.core()
                {
                    sched::remove_vcpu(core, thread); // deleted when it was no vCPU yet
                }
            }
            Self::Timer { deadline } => {
                let core = thread.core().filter(|_| thread.kind() == ThreadKind::Vcpu).ok_or(Error::BadState)?;
                thread.deadline.store(deadline, Ordering::Release);
                let own = percore::core();
                if core.index == own.index {
                    sched::arm_timer(own);
                } else {
                    percore::poke(core);
                }
            }
            Self::Decouple { place, doorbell } => {
                let register = || {
                    *thread.doorbell.lock() = Some(doorbell);
                    Ok(())
                };
                thread.share(ThreadKind::Decoupled, place, register).map_err(only(Error::BadAddress, 1))?;
            }
            Self::Run(task) => decoupled::run(thread, task)?,
            Self::Wake => poke_home(thread),
        }
        Ok(())
    }
}

/// What a slot names, where 0 names nothing.
fn optional<T>(slot: u64, take: impl FnOnce(u64) -> Result<T, Error>) -> Result<Option<T>, Error> {
    if slot == 0 { Ok(None) } else { take(slot).map(Some) }
}

/// This one error is about argument `index`, others about none in particular.
fn only(about: Error, index: u64) -> impl Fn(Error) -> Refusal {
    move |error| Refusal { error, argument: if error == about { index } else { abi::NO_ARGUMENT } }
}

fn poke_home(thread: &Thread) {
    if let Some(core) = thread.core() {
        percore::poke(core);
    }
}
