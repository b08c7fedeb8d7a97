//! What single operations cost. Recorded by `opcost`, counted by the meter's windows.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::{Machine, Placement};
use crate::meter::{Counts, Meter, Window};
use crate::stats::{Summary, percentile};

const FORMAT: &str = "tacet-opcost";

/// Window of the measuring frame with nothing in it; its cost is taken off the others'.
pub const EMPTY: u8 = 0;
/// One operation's durations in ticks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Number of its windows.
    pub id: u8,
    pub name: String,
    pub ticks: Summary,
}

/// What `opcost` leaves behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpRecording {
    pub format: String,
    pub tsc_hz: f64,
    pub machine: Machine,
    pub placement: Placement,
    /// In the order in which they were measured.
    pub ops: Vec<Timed>,
}

impl OpRecording {
    pub fn new(tsc_hz: f64, placement: Placement, ops: Vec<Timed>) -> Self {
        OpRecording { format: FORMAT.into(), tsc_hz, machine: Machine::this(), placement, ops }
    }

    /// # Errors
    /// [`Error::File`] or [`Error::Format`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let recording: OpRecording =
            serde_json::from_str(&text).map_err(|e| Error::format(path, e.line(), e.to_string()))?;
        if recording.format != FORMAT {
            let what = format!("format {} where {FORMAT} is needed", recording.format);
            return Err(Error::format(path, 1, what));
        }
        Ok(recording)
    }

    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|e| Error::format(path, e.line(), e.to_string()))?;
        fs::write(path, text + "\n").map_err(|e| Error::file(path, e))
    }
}

/// Instructions of one operation on one core: medians over the samples, each less that of the empty window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreCost {
    pub core: u32,
    pub user: u64,
    pub kernel: u64,
    pub kernel_entries: u64,
}

impl CoreCost {
    pub fn total(&self) -> u64 {
        self.user + self.kernel
    }
}

/// What one operation costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpCost {
    pub name: String,
    /// Core that asked for the operation.
    pub core: u32,
    /// Median time, less that of the empty window.
    pub median_ns: f64,
    /// Instructions of all cores together: median over the samples of the sum, less that of the empty window.
    pub insns: u64,
    pub cores: Vec<CoreCost>,
}

/// Join a recording with the meter's windows: those of the only `opcost` run in the machine's life.
///
/// # Errors
/// [`Error::Mismatch`] if the meter holds fewer windows than the recording says.
pub fn merge(recording: &OpRecording, meter: &Meter) -> Result<Vec<OpCost>> {
    let no_frame = || Error::Mismatch("the recording has no empty windows".into());
    let empty = recording.ops.iter().find(|o| o.id == EMPTY).ok_or_else(no_frame)?;
    let frame = windows(empty, meter)?;
    recording
        .ops
        .iter()
        .filter(|o| o.id != EMPTY)
        .map(|op| {
            let samples = windows(op, meter)?;
            let less = |f: &dyn Fn(&[Window]) -> u64| median(&samples, f).saturating_sub(median(&frame, f));
            let cores = (0..meter.vcpus.len() as u32)
                .map(|core| {
                    let on = |f: fn(&Counts) -> u64| {
                        less(&move |w| w.iter().filter(|w| w.vcpu == core).map(|w| f(&w.counts)).sum())
                    };
                    CoreCost { core, user: on(|c| c.user), kernel: on(|c| c.kernel), kernel_entries: on(|c| c.entries) }
                })
                .collect();
            Ok(OpCost {
                name: op.name.clone(),
                core: samples[0][0].vcpu_begin,
                median_ns: op.ticks.median.saturating_sub(empty.ticks.median) as f64 * 1e9 / recording.tsc_hz,
                insns: less(&|w| w.iter().map(|w| w.counts.total()).sum()),
                cores,
            })
        })
        .collect()
}

/// The windows of one operation: for each sample the lines of all vCPUs.
fn windows<'a>(op: &Timed, meter: &'a Meter) -> Result<Vec<&'a [Window]>> {
    let samples: Vec<&[Window]> =
        meter.windows.chunk_by(|a, b| a.index == b.index).filter(|w| w[0].id == op.id).collect();
    if samples.len() != op.ticks.samples {
        return Err(Error::Mismatch(format!(
            "{} windows of '{}' recorded, the meter saw {}",
            op.ticks.samples,
            op.name,
            samples.len()
        )));
    }
    Ok(samples)
}

fn median(samples: &[&[Window]], f: &dyn Fn(&[Window]) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(|w| f(w)).collect();
    values.sort_unstable();
    percentile(&values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> OpRecording {
        let timed =
            |id, name: &str, median| Timed { id, name: name.into(), ticks: Summary::of(&[median, median]).unwrap() };
        OpRecording {
            format: FORMAT.into(),
            tsc_hz: 1e9,
            machine: Machine::default(),
            placement: Placement::default(),
            ops: vec![timed(EMPTY, "empty", 20), timed(1, "getppid", 120)],
        }
    }

    /// Two samples on two vCPUs; core 0 works for core 1.
    const METER: &str = "tacet-meter,1,2\nV,0,0,0,0,0,0\nV,1,0,0,0,0,0\n\
        W,0,0,1,1,0,0,0,0,0,0\nW,0,0,1,1,1,10,0,0,0,0\nW,0,1,1,1,0,0,0,0,0,0\nW,0,1,1,1,1,10,0,0,0,0\n\
        W,1,2,1,1,0,900,80,2,1,0\nW,1,2,1,1,1,15,60,1,1,0\nW,1,3,1,1,0,900,80,2,1,0\nW,1,3,1,1,1,15,60,1,1,0\n\
        end,0,4\n";

    #[test]
    fn costs_are_medians_less_the_empty_frame_on_each_core() {
        let meter = Meter::parse(METER, Path::new("m")).unwrap();
        let cost = &merge(&recording(), &meter).unwrap()[0];
        assert_eq!((cost.name.as_str(), cost.core, cost.insns), ("getppid", 1, 980 + 65));
        assert_eq!(cost.median_ns, 100.0);
        assert_eq!((cost.cores[0].user, cost.cores[0].kernel), (900, 80));
        assert_eq!((cost.cores[1].total(), cost.cores[1].kernel_entries), (65, 1));
    }

    #[test]
    fn missing_windows_are_an_error() {
        let meter = Meter::parse(METER, Path::new("m")).unwrap();
        let mut recording = recording();
        recording.ops[1].id = 2;
        let message = merge(&recording, &meter).unwrap_err().to_string();
        assert!(message.contains("2 windows of 'getppid'") && message.contains("saw 0"), "{message}");
    }
}
