//! The object layer of Tacet's kernel: what capabilities name, what counts it, what pays for it, and how it ends.
//!
//! 1. **No hardware.** What the layer needs of the machine is in [`platform`]; so it is tested on the host, under Miri, and
//!    `microkernel/model` runs the same text under loom.
//! 2. **No object knows all others.** A type says in [`Object`] what is to be done in its end; nothing here lists the types.
//! 3. **Nothing is done where a reference goes.** Locks may be held there: what ends comes into its core's list
//!    ([`Work`]), and is taken apart in steps of bounded length.
//! 4. **A count cannot wrap.** Whatever is counted takes memory, and there is less of it than 64 bits count.
#![no_std]
#![allow(clippy::new_without_default, reason = "nobody asks for defaults here")]

#[cfg(test)]
extern crate std;

mod atomic;
#[cfg(feature = "check")]
pub mod check;
mod cspace;
mod ending;
mod header;
pub mod ipc;
mod meeting;
pub mod platform;
mod queue;
pub mod sync;
mod untyped;
mod waiting;

#[cfg(test)]
mod tests;

pub use cspace::{CSpace, Capability, Held, Lease, Parent};
pub use ending::{Ending, STEPS, Work};
use kcore::handshake;

pub use header::{Header, Kind, Name, Object, Ref, Remains};
pub use meeting::{Endpoint, Notification, Reply, Waiters};
pub use queue::Queue;
pub use sync::{Guard, SpinLock};
pub use untyped::{Pages, Untyped, create, create_child, create_with};
pub use waiting::{Rest, Sleeper, Waiting};
