//! `gossip-mgr simulate coordinator`: jobs that share storage, with and without somebody who says who writes when.

use std::path::Path;

use clap::ValueEnum;
use gossip_checkpoint_model::published::daly;
use gossip_core::rng::Rng;
use gossip_sim::checkpoints::Mean;
use gossip_sim::coordinator::{Sharing, SharingJob, overhead};

use super::plot::{Axis, plot};

const GB: f64 = 1e9;
const YEAR_S: f64 = 365.25 * 86_400.0;
const DAY_S: f64 = 86_400.0;

/// Which jobs share the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// The workflows EAP, LAP, Silverton and VPIC of the APEX procurement on a machine as Cielo, which they fill.
    Apex,
    /// Sixteen of 64 to 4,096 nodes, each with 32 GB a node.
    Sixteen,
}

/// What to simulate.
pub struct Jobs<'a> {
    /// Which jobs.
    pub mix: Mix,
    /// Years between failures of a node.
    pub node_mtbf_years: f64,
    /// GB/s of the storage.
    pub bandwidths: &'a [f64],
    /// Days.
    pub days: f64,
    /// Runs for each figure.
    pub runs: u64,
    /// Seed.
    pub seed: u64,
}

/// Nodes and bytes of a checkpoint.
fn sizes(mix: Mix) -> Vec<(u32, f64)> {
    match mix {
        // Nodes of 16 cores with 2 GB each; checkpoints are so many times the memory.
        Mix::Apex => [(4, 16_384, 1.60), (3, 4_096, 1.85), (1, 32_768, 3.50), (1, 30_000, 0.85)]
            .into_iter()
            .flat_map(|(count, cores, share)| {
                std::iter::repeat_n((cores / 16, f64::from(cores) * 2.0 * GB * share), count)
            })
            .collect(),
        Mix::Sixteen => (0..16).map(|i| 64 << (i % 7)).map(|nodes| (nodes, f64::from(nodes) * 32.0 * GB)).collect(),
    }
}

impl Jobs<'_> {
    fn jobs(&self, bandwidth: f64) -> Vec<SharingJob> {
        let one = |(nodes, bytes): (u32, f64)| {
            let mtbf_s = self.node_mtbf_years * YEAR_S / f64::from(nodes);
            let alone_s = bytes / (bandwidth * GB);
            SharingJob { nodes, mtbf_s, alone_s, restart_s: alone_s + 60.0, interval_s: daly(alone_s, mtbf_s) }
        };
        sizes(self.mix).into_iter().map(one).collect()
    }

    fn mean(&self, jobs: &[SharingJob], sharing: Sharing) -> Mean {
        let run = |n| overhead(jobs, sharing, self.days * DAY_S, &mut Rng::new(self.seed, n));
        Mean::of(&(0..self.runs).map(run).collect::<Vec<f64>>())
    }
}

/// How much of its time the storage is written to, if nobody waits.
fn demand(jobs: &[SharingJob]) -> f64 {
    jobs.iter().map(|job| job.alone_s / (job.alone_s + job.interval_s)).sum()
}

/// Runs it; whether it met its bounds.
///
/// # Errors
/// If a plot cannot be written.
pub fn run(what: &Jobs, plots: Option<&Path>) -> anyhow::Result<bool> {
    say!(
        "{} jobs on {} nodes, a node fails each {} years, {} days, {} runs",
        sizes(what.mix).len(),
        sizes(what.mix).iter().map(|job| job.0).sum::<u32>(),
        what.node_mtbf_years,
        what.days,
        what.runs
    )?;
    say!(
        "{:>8} {:>8}  {:>16}  {:>16}  {:>16}  {:>7}  {:>7}",
        "GB/s",
        "demand",
        "each by itself",
        "in turn",
        "planned",
        "saved",
        "in turn"
    )?;
    let names = ["each by itself", "in turn", "planned"];
    let mut curves: [Vec<(f64, f64)>; 3] = Default::default();
    let mut good = true;
    for &bandwidth in what.bandwidths {
        let jobs = what.jobs(bandwidth);
        let demand = demand(&jobs);
        let all = [Sharing::Free, Sharing::FirstCome, Sharing::Planned].map(|sharing| what.mean(&jobs, sharing));
        let saved = |i: usize| 1.0 - all[i].value / all[0].value;
        let told = all.map(|mean| format!("{:.2} % ± {:.2} %", 100.0 * mean.value, 100.0 * mean.error));
        say!(
            "{bandwidth:>8} {demand:>8.2}  {:>16}  {:>16}  {:>16}  {:>5.1} %  {:>5.1} %",
            told[0],
            told[1],
            told[2],
            100.0 * saved(2),
            100.0 * saved(1)
        )?;
        for (curve, mean) in curves.iter_mut().zip(&all) {
            curve.push((demand, 100.0 * mean.value));
        }
        let noise = 2.0 * (all[0].error.powi(2) + all[2].error.powi(2)).sqrt();
        let is_worse = all[2].value > all[0].value + noise;
        let saves_little = demand >= 0.5 && saved(2) < 0.1;
        if is_worse || saves_little {
            say!(
                "         missed: {}",
                if is_worse { "planned is worse than each by itself" } else { "planned saves less than a tenth" }
            )?;
            good = false;
        }
    }
    let curves: Vec<_> = names.into_iter().zip(curves).collect();
    let axes = (Axis::linear("demand for the storage"), Axis::linear("overhead in %"));
    plot(plots, "coordinator", "Checkpoints of jobs that share storage", axes, &curves)?;
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixes_are_as_described() {
        let apex = sizes(Mix::Apex);
        assert_eq!(apex.len(), 9);
        assert!(apex.iter().map(|job| job.0).sum::<u32>() <= 8_944, "Cielo's nodes");
        let sixteen = sizes(Mix::Sixteen);
        let nodes = || sixteen.iter().map(|job| job.0);
        assert_eq!((sixteen.len(), nodes().min(), nodes().max()), (16, Some(64), Some(4_096)));
    }

    #[test]
    fn a_short_run_is_within_its_bounds() {
        let what = Jobs { mix: Mix::Apex, node_mtbf_years: 2.0, bandwidths: &[100.0], days: 60.0, runs: 4, seed: 1 };
        assert!(run(&what, None).unwrap());
    }
}
