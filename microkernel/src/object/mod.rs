//! Kernel objects: what capabilities name. The layer below them, without hardware, is the crate `kobj`.

mod devices;
mod range;
mod target;
mod task;
mod thread;

pub use kobj::{
    CSpace, Capability, Header, Held, Kind, Lease, Object, Pages, Parent, Ref, Remains, Untyped, create, create_child,
    create_with,
};

pub use devices::{Cpu, IrqHandler, IrqSource, Log, Machine, claim_vector};
pub use kcore::handshake::State;
pub use range::{Range, Recall};
pub use target::Target;
pub use task::Task;
pub use thread::{Kind as ThreadKind, Place, Thread};

pub type Endpoint = kobj::Endpoint<Thread>;
pub type Reply = kobj::Reply<Thread>;
pub type Notification = kobj::Notification<Thread>;
pub type Waiters = kobj::Waiters<Thread>;
pub type Waiting = kobj::Waiting<Thread>;
pub type Queue = kobj::Queue<Thread>;
