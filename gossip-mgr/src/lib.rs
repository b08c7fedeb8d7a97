//! The node manager as a daemon: what surrounds the protocols of `gossip-core` with sockets, clocks,
//! sensors and a command line.
//!
//! One thread does all of the protocols. It never waits for anything but the network and the clock: hooks
//! run as processes of their own, a second thread writes the audit log, and an error of a disk, a sensor or
//! a hook is counted and logged, but gossip goes on.
#![forbid(unsafe_code)]

#[macro_use]
pub mod output;

pub mod advice;
pub mod audit;
pub mod checkpoint;
pub mod config;
pub mod control;
pub mod coordinate;
pub mod daemon;
pub mod hook;
pub mod incarnation;
pub mod interruption;
pub mod job_run;
pub mod jobs;
pub mod key;
pub mod metrics;
pub mod policy;
pub mod sensors;
pub mod shock;
pub mod simulate;
pub mod udp;
pub mod view;
