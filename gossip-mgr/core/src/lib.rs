//! The node manager's protocols as state machines without I/O.
//!
//! Principles that the code keeps:
//!
//! 1. Nothing here reads a clock, opens a socket or spawns a thread. Time, messages and entropy come
//!    in as arguments; messages and verdicts go out as values. The daemon and the simulator drive
//!    exactly this code.
//! 2. Same inputs, same outputs: every random choice comes from a seeded [`rng::Rng`].
//! 3. What arrives from the network is decoded into a checked type first, then acted upon. Malformed
//!    input is an error value to be counted, never a panic.
#![forbid(unsafe_code)]

pub mod board;
pub mod collective;
pub mod colony;
pub mod detector;
pub mod node;
pub mod report;
pub mod rng;
pub mod seal;
