//! Decoupling from inside Linux on Tacet: the library under `decouple`, `recouple`, `corectl`, the preload library and
//! the C interface.
//!
//! Principles:
//! 1. Only the Linux-side interface is known here: `/dev/decouple` ([`abi`]) and `/sys/kernel/decouple` ([`state`]).
//! 2. Never silently undecoupled: every failure is an [`Error`] that says what was wrong, where, and what to do.
//! 3. Decisions (which core, which policy, what message) are plain functions over a [`state::Machine`] and a
//!    [`driver::Driver`], so they are tested on any machine.

pub mod abi;
pub mod cores;
pub mod driver;
pub mod error;
pub mod place;
pub mod plan;
pub mod rank;
pub mod reservation;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(feature = "tools")]
pub mod tool;

pub use cores::CoreList;
pub use driver::{Device, Driver};
pub use error::Error;
pub use place::{Target, attach, detach};
pub use state::{Machine, Sysfs};
