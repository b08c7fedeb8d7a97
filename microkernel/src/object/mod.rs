//! Kernel objects: what capabilities name. The layer below them, without hardware, is the crate `kobj`.

pub mod destroy;
mod devices;
mod endpoint;
mod range;
mod task;
mod thread;

pub use kobj::{
    CSpace, Capability, Header, Held, Kind, Lease, Object, Pages, Parent, Ref, Remains, Untyped, create, create_child,
    create_with,
};

pub use devices::{Cpu, IrqHandler, IrqSource, Log, Machine, Target, claim_vector};
pub use endpoint::{Endpoint, Notification, Queue, Reply, Waiters};
pub use kcore::handshake::State;
pub use range::Range;
pub use task::Task;
pub use thread::{Kind as ThreadKind, Thread, Waiting};
