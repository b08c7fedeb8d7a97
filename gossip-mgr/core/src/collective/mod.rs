//! Fault-tolerant collectives: corrected gossip, corrected trees, and an allreduce that goes round
//! dead processes.
//!
//! A collective is one [`broadcast::Broadcast`] or [`allreduce::Allreduce`] a process. Its driver
//! hands it the messages that arrive and asks it for the next one whenever the sending port is free;
//! the driver may be the LogP simulator or [`transport`] over a real network.

pub mod allreduce;
pub mod broadcast;
pub mod correction;
pub mod topology;
pub mod transport;

/// A process of the collective, `0..P`. Rank 0 is the root.
pub type Rank = u32;

/// Time in the driver's unit: LogP steps in the simulator, microseconds over a real transport.
pub type Time = u64;

/// The LogP machine model (Culler et al., PPoPP 1993), in units of [`Time`]. P is given elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogP {
    /// L: time that a message spends in the network.
    pub latency: Time,
    /// o: time that a processor is busy with sending or with receiving one message.
    pub overhead: Time,
    /// g: least time between two sends, or two receives, of one processor.
    pub gap: Time,
}

impl LogP {
    /// From the start of a send to the end of its reception.
    pub fn delay(self) -> Time {
        self.latency + 2 * self.overhead
    }

    /// Least time between two consecutive sends of one processor.
    pub fn period(self) -> Time {
        self.overhead.max(self.gap).max(1)
    }
}

/// What is wrong with the parameters of a collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// P = 0.
    #[error("a collective needs at least one process")]
    NoProcesses,
    /// k = 0.
    #[error("the arity k of a tree must be at least 1")]
    Arity,
    /// The distance of opportunistic correction does not fit the ring.
    #[error("correction distance {distance} needs more than {distance} processes, there are {processes}")]
    Distance {
        /// The distance asked for.
        distance: u32,
        /// P.
        processes: u32,
    },
    /// A rank outside `0..P`.
    #[error("rank {rank} is outside 0..{processes}")]
    Rank {
        /// The offending rank.
        rank: Rank,
        /// P.
        processes: u32,
    },
}
