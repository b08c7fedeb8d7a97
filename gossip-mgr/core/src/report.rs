//! What a node reports about itself.

use serde::{Deserialize, Serialize};

/// The state of a node. Fields that a node cannot measure are `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Host name.
    pub name: String,
    /// Load of each core in percent over the last interval.
    pub core_load: Vec<u8>,
    /// Runnable threads (1-minute load average) in hundredths.
    pub load_average: u32,
    /// Compute cores on which no thread is decoupled; none on a system without Tacet.
    pub compute_free: Option<u16>,
    /// Compute cores with a decoupled or reserved thread.
    pub compute_used: Option<u16>,
    /// Main memory in KiB.
    pub memory_total: u64,
    /// Memory available to new programs in KiB.
    pub memory_free: u64,
    /// Highest temperature in tenths of a degree Celsius.
    pub temperature: Option<i16>,
    /// What is wrong with the node.
    pub health: Health,
}

/// Flags of [`Report::health`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Above the configured temperature.
    pub hot: bool,
    /// Less than 5 % of the memory is available.
    pub memory_low: bool,
    /// Something that should be readable was not.
    pub sensors_failed: bool,
}

impl Health {
    /// Whether anything is wrong.
    pub fn is_bad(self) -> bool {
        self.hot || self.memory_low || self.sensors_failed
    }
}

impl Report {
    /// Mean load over all cores in percent; 0 without cores.
    pub fn mean_load(&self) -> f64 {
        let sum: u32 = self.core_load.iter().map(|&load| u32::from(load)).sum();
        f64::from(sum) / self.core_load.len().max(1) as f64
    }
}
