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
    pub compute_free: Option<CoreSet>,
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

/// A set of core numbers, as ranges: small on its way, whatever the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreSet(Vec<(u16, u16)>);

impl CoreSet {
    /// How many cores are in it.
    pub fn len(&self) -> u32 {
        let sizes = self.0.iter().map(|&(first, last)| u32::from(last.saturating_sub(first)) + 1);
        sizes.sum()
    }

    /// Whether no core is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u16> for CoreSet {
    fn from_iter<I: IntoIterator<Item = u16>>(cores: I) -> Self {
        let mut cores: Vec<u16> = cores.into_iter().collect();
        cores.sort_unstable();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for core in cores {
            match ranges.last_mut() {
                Some((_, last)) if core <= last.saturating_add(1) => *last = core,
                _ => ranges.push((core, core)),
            }
        }
        Self(ranges)
    }
}

impl std::fmt::Display for CoreSet {
    /// As Linux writes lists of CPUs: `1-3,7`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range = |&(first, last): &(u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        f.write_str(&self.0.iter().map(range).collect::<Vec<_>>().join(","))
    }
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
    /// How much the programs of this node want of its cores, in percent of all: the mean load, or the
    /// runnable threads a core if they are more. Above 100 threads wait for cores.
    pub fn demand(&self) -> f64 {
        let runnable = f64::from(self.load_average) / self.core_load.len().max(1) as f64;
        self.mean_load().max(runnable)
    }

    /// Share of the memory that is available, 0 to 1; 1 if unknown.
    pub fn memory_share(&self) -> f64 {
        match self.memory_total {
            0 => 1.0,
            total => self.memory_free as f64 / total as f64,
        }
    }

    /// Mean load over all cores in percent; 0 without cores.
    pub fn mean_load(&self) -> f64 {
        let sum: u32 = self.core_load.iter().map(|&load| u32::from(load)).sum();
        f64::from(sum) / self.core_load.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_set_reads_as_linux_writes_it() {
        let set: CoreSet = [7, 2, 1, 3, 3].into_iter().collect();
        assert_eq!((set.to_string().as_str(), set.len()), ("1-3,7", 4));
        assert!(CoreSet::default().is_empty());
    }

    #[test]
    fn threads_that_wait_for_cores_are_demand_that_load_cannot_show() {
        let report = Report { core_load: vec![100, 100], load_average: 600, ..Report::default() };
        assert_eq!(report.demand(), 300.0);
        let busy = Report { load_average: 10, ..report };
        assert_eq!(busy.demand(), 100.0);
    }
}
