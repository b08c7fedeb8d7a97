//! The levels of checkpoints, and what one costs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ModelError, at_least_zero};

/// Where a checkpoint is kept. Later ones survive more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelKind {
    /// On the node itself: survives the death of ranks.
    Local,
    /// On the node, with a parity over groups of so many nodes: one of a group may be lost.
    Xor {
        /// Nodes of a group.
        group: u32,
    },
    /// On the node and on another one.
    Partner,
    /// On the node, with Reed-Solomon codes over groups of `data + parity` nodes: `parity` of them may be lost.
    ReedSolomon {
        /// k.
        data: u32,
        /// m.
        parity: u32,
    },
    /// On fast storage that all nodes share, and that may lose what it has.
    BurstBuffer,
    /// On the parallel file system, which loses nothing.
    ParallelFs,
}

impl LevelKind {
    /// How many other nodes share the fate of a node's checkpoint, and how many of all of them may be lost; none for
    /// levels that do not live on the nodes.
    pub(crate) fn redundancy(self) -> Option<(u32, u32)> {
        match self {
            Self::Local => Some((0, 0)),
            Self::Xor { group } => Some((group.saturating_sub(1), 1)),
            // The one that has the copy, and the one of which the node has the copy.
            Self::Partner => Some((2, 1)),
            Self::ReedSolomon { data, parity } => Some(((data + parity).saturating_sub(1), parity)),
            Self::BurstBuffer | Self::ParallelFs => None,
        }
    }

    /// Nodes that hold one redundancy group.
    pub(crate) fn members(self) -> u32 {
        match self {
            Self::Local | Self::BurstBuffer | Self::ParallelFs => 1,
            Self::Xor { group } => group,
            Self::Partner => 2,
            Self::ReedSolomon { data, parity } => data + parity,
        }
    }

    /// Whether it is written to storage that other jobs use, too.
    pub fn shared(self) -> bool {
        matches!(self, Self::BurstBuffer | Self::ParallelFs)
    }
}

impl fmt::Display for LevelKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Xor { group } => write!(f, "XOR over {group}"),
            Self::Partner => f.write_str("partner"),
            Self::ReedSolomon { data, parity } => write!(f, "Reed-Solomon {data}+{parity}"),
            Self::BurstBuffer => f.write_str("burst buffer"),
            Self::ParallelFs => f.write_str("parallel file system"),
        }
    }
}

/// What a checkpoint of a level costs, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The application waits for so long, or is slowed down by as much in all.
    pub blocking_s: f64,
    /// It is complete so long after the application went on.
    pub background_s: f64,
    /// A restart from it takes so long, with all that precedes it, such as finding another node.
    pub restart_s: f64,
}

impl Cost {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        at_least_zero("the time that a checkpoint blocks the application", self.blocking_s)?;
        at_least_zero("the time until a checkpoint is complete", self.background_s)?;
        at_least_zero("the time of a restart", self.restart_s)
    }
}

/// What writing takes on a machine of nodes that are all alike, by the sizes and bandwidths that are known before
/// anything is measured. Bytes and bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// To a node's own storage.
    pub local_write: f64,
    /// From it.
    pub local_read: f64,
    /// Of a node's network.
    pub network: f64,
    /// To the burst buffer, all nodes together; as fast from it.
    pub burst_buffer: f64,
    /// To the parallel file system, all nodes together; as fast from it.
    pub parallel_fs: f64,
    /// To combine bytes for a parity, per node.
    pub encode: f64,
}

impl Machine {
    /// A checkpoint of `bytes` a node, written while the application waits; `replace_s` until a dead node is replaced.
    pub fn cost(&self, kind: LevelKind, nodes: u32, bytes: f64, replace_s: f64) -> Cost {
        let (write, read, network) = (1.0 / self.local_write, 1.0 / self.local_read, 1.0 / self.network);
        let nodes = f64::from(nodes);
        // Seconds per byte of a node's checkpoint: to write it, and to get it back onto a new node.
        let (blocking, restart) = match kind {
            LevelKind::Local => (write, read),
            LevelKind::Xor { group } => {
                let others = f64::from(group) - 1.0;
                // A parity of 1/(g-1) of the size goes round the ring. To rebuild, all that the others have goes round.
                (write * (1.0 + 1.0 / others) + read + 2.0 * network + 1.0 / self.encode, read + 2.0 * network + write)
            }
            LevelKind::ReedSolomon { data, parity } => {
                let share = f64::from(parity) / f64::from(data);
                let code = share.max(1.0) / self.encode;
                (write * (1.0 + share) + read + (1.0 + share) * network + code, read + 2.0 * network + code + write)
            }
            LevelKind::Partner => (2.0 * write + read + 2.0 * network, read + network + write),
            LevelKind::BurstBuffer => (nodes / self.burst_buffer, nodes / self.burst_buffer + write),
            LevelKind::ParallelFs => (nodes / self.parallel_fs, nodes / self.parallel_fs + write),
        };
        // Ranks that died alone start again where they were.
        let replace = if kind == LevelKind::Local { 0.0 } else { replace_s };
        Cost { blocking_s: blocking * bytes, background_s: 0.0, restart_s: restart * bytes + replace }
    }

    /// The same with all that follows the local write done in the background, which slows the application down by
    /// `interference` of that time.
    pub fn background_cost(&self, kind: LevelKind, nodes: u32, bytes: f64, replace_s: f64, interference: f64) -> Cost {
        let all = self.cost(kind, nodes, bytes, replace_s);
        let local = bytes / self.local_write;
        let rest = (all.blocking_s - if kind.shared() { 0.0 } else { local }).max(0.0);
        Cost { blocking_s: local + interference * rest, background_s: rest * (1.0 - interference), ..all }
    }
}
