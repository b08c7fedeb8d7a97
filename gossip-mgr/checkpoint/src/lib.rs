//! Checkpoints of parallel jobs at several levels.
//!
//! Each rank writes its files to its node; in the background the node's agent pulls copies of other ranks' pieces,
//! computes parity over a group, or copies to shared storage. Nothing is written on another node's behalf.
//!
//! * An object is complete or absent, and its hash is compared before anything restarts from it.
//! * Whether a checkpoint exists is decided from what is found when it is needed: no record of it can be lost.
//! * What decides ([`topology`], [`code`], [`recovery`], [`policy`]) does no I/O.
#![forbid(unsafe_code)]

pub mod agent;
pub mod code;
pub mod comm;
pub mod dense;
pub mod files;
pub mod id;
pub mod manifest;
pub mod policy;
pub mod recovery;
pub mod session;
pub mod store;
pub mod topology;
pub mod transfer;
