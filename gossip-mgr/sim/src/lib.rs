//! A deterministic simulator for the protocols of `gossip-core`.
//!
//! It drives the very state machines that the daemon runs. Same seed and parameters, same trace.
#![forbid(unsafe_code)]

pub mod allreduce;
pub mod board;
pub mod broadcast;
pub mod checkpoints;
pub mod cluster;
pub mod colonies;
pub mod coordinator;
pub mod detection;
pub mod experiments;
pub mod fail_proof;
pub mod faults;
