//! `gossip-mgr simulate checkpoints`: the choice of levels and intervals beside published models, each in a simulation
//! of the same failures.

use std::path::Path;

use anyhow::ensure;
use clap::ValueEnum;
use gossip_checkpoint_model::choice::{Offer, Setting, choose};
use gossip_checkpoint_model::level::Machine;
use gossip_checkpoint_model::lifetime::Pattern;
use gossip_checkpoint_model::published::{daly, young};
use gossip_checkpoint_model::{Cost, FailureGroup, Failures, Job, LevelKind};
use gossip_sim::checkpoints::{HOPELESS, Mean, Run, overhead};

use super::plot::{Axis, plot};

/// A gigabyte.
const GB: f64 = 1e9;

/// How far the model may be off, as a share of the simulated overhead.
const OFF: f64 = 0.03;

/// The same that the published multi-level models are held to, for the claim of their authors' machine.
const MACHINE: Machine = Machine {
    local_write: 15.0 * GB,
    local_read: 15.0 * GB,
    network: 80.0 * GB,
    burst_buffer: 30_000.0 * GB,
    parallel_fs: 20_000.0 * GB,
    encode: 10.0 * GB,
};

/// How checkpoints beyond the node are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Writing {
    /// While the application waits.
    Blocking,
    /// In the background, with a slow-down of a tenth of the time.
    Background,
}

/// What `simulate checkpoints` is to run.
pub struct Checkpoints<'a> {
    /// Nodes of the job.
    pub nodes: u32,
    /// Hours of work.
    pub hours: f64,
    /// Checkpoint sizes in GB a node.
    pub sizes: &'a [f64],
    /// Numbers of levels, 3 to 5.
    pub levels: &'a [u8],
    /// Mean hours to the failure of a rank; one rank a node.
    pub rank_mtbf_hours: f64,
    /// Mean hours to that of a node.
    pub node_mtbf_hours: f64,
    /// How lower levels are written.
    pub writing: Writing,
    /// Runs for each figure.
    pub runs: u64,
    /// Seed.
    pub seed: u64,
}

/// A method's levels with its intervals, and what came of it.
struct Tried {
    name: &'static str,
    model: f64,
    simulated: Mean,
    what: String,
}

impl Checkpoints<'_> {
    fn failures(&self) -> Failures {
        let group = |name: &str, size, mtbf_hours| FailureGroup { name: name.into(), size, mtbf_hours };
        Failures {
            rank_mtbf_hours: self.rank_mtbf_hours,
            node_mtbf_hours: self.node_mtbf_hours,
            groups: vec![
                group("switch", 32, 100_000.0),
                // So many nodes that a group of 8 has two in one.
                group("row of cabinets", self.nodes.div_ceil(6), 5_000.0),
                group("power supply of all", self.nodes, 2_000.0),
            ],
            burst_buffer_mtbf_hours: 500.0,
            replace_s: 60.0,
        }
    }

    fn offers(&self, levels: u8, bytes: f64, replace_s: f64) -> Vec<Offer> {
        let xor = LevelKind::Xor { group: 8 };
        let kinds: &[LevelKind] = match levels {
            3 => &[LevelKind::Local, xor, LevelKind::ParallelFs],
            4 => &[LevelKind::Local, xor, LevelKind::Partner, LevelKind::ParallelFs],
            _ => &[LevelKind::Local, xor, LevelKind::Partner, LevelKind::BurstBuffer, LevelKind::ParallelFs],
        };
        let cost = |&kind: &LevelKind| -> (LevelKind, Cost) {
            let cost = match self.writing {
                Writing::Blocking => MACHINE.cost(kind, self.nodes, bytes, replace_s),
                Writing::Background => MACHINE.background_cost(kind, self.nodes, bytes, replace_s, 0.1),
            };
            (kind, cost)
        };
        kinds.iter().map(cost).collect()
    }
}

/// One number of levels at one size: all methods.
struct Case<'a> {
    job: &'a Job,
    failures: &'a Failures,
    runs: u64,
    seed: u64,
}

impl Case<'_> {
    fn simulate(&self, name: &'static str, setting: &Setting, pattern: &Pattern) -> Tried {
        let model = pattern.overhead();
        let run = Run { job: self.job, failures: self.failures, setting, pattern };
        let intervals = setting.levels().iter().enumerate().map(|(i, (kind, _))| {
            let seconds = pattern.interval(i);
            if seconds < 10_000.0 {
                format!("{kind} {seconds:.0} s")
            } else {
                format!("{kind} {:.1} h", seconds / 3_600.0)
            }
        });
        Tried {
            name,
            model,
            simulated: if model < HOPELESS {
                overhead(run, self.runs, self.seed)
            } else {
                Mean { value: f64::INFINITY, error: 0.0 }
            },
            what: intervals.collect::<Vec<_>>().join(", "),
        }
    }

    /// The file system alone, with the interval of `rule`.
    fn alone(&self, name: &'static str, offers: &[Offer], rule: fn(f64, f64) -> f64) -> anyhow::Result<Tried> {
        let offer: Vec<Offer> = offers.iter().copied().filter(|(kind, _)| *kind == LevelKind::ParallelFs).collect();
        let setting = Setting::new(self.job, self.failures, &offer)?;
        let mtbf = 1.0 / self.failures.interruptions(self.job);
        let interval = rule(offer[0].1.blocking_s, mtbf).clamp(1.0, self.job.work_s);
        let pattern = setting.pattern(&[interval]);
        Ok(self.simulate(name, &setting, &pattern))
    }

    fn two_levels(&self, offers: &[Offer]) -> anyhow::Result<Tried> {
        let (&fs, lower) = offers.split_last().ok_or_else(|| anyhow::anyhow!("no levels"))?;
        let mut best: Option<(Setting, Pattern)> = None;
        for &low in lower {
            let setting = Setting::new(self.job, self.failures, &[low, fs])?;
            let pattern = setting.optimise();
            if best.as_ref().is_none_or(|(_, best)| pattern.lifetime() < best.lifetime()) {
                best = Some((setting, pattern));
            }
        }
        let (setting, pattern) = best.ok_or_else(|| anyhow::anyhow!("one level only"))?;
        Ok(self.simulate("two levels, Vaidya's chain", &setting, &pattern))
    }

    fn all(&self, offers: &[Offer]) -> anyhow::Result<Vec<Tried>> {
        let setting = Setting::new(self.job, self.failures, offers)?;
        let mut tried = vec![
            self.alone("file system alone, Young", offers, young)?,
            self.alone("file system alone, Daly", offers, daly)?,
            self.two_levels(offers)?,
        ];
        for (name, pattern) in [
            ("all levels, Di (first order)", setting.first_order()),
            ("all levels, recursion on means", setting.recursive()),
            ("all levels, exact (Moody)", setting.optimise()),
        ] {
            tried.push(self.simulate(name, &setting, &pattern));
        }
        let plan = choose(self.job, self.failures, offers)?;
        let chosen: Vec<Offer> =
            offers.iter().copied().filter(|(kind, _)| plan.levels.iter().any(|level| level.kind == *kind)).collect();
        let setting = Setting::new(self.job, self.failures, &chosen)?;
        let pattern = setting.optimise();
        tried.push(self.simulate("ours: best set of levels", &setting, &pattern));
        Ok(tried)
    }
}

/// See `simulate checkpoints`.
///
/// # Errors
/// If something cannot be written, or the numbers make no sense together.
pub fn checkpoints(what: &Checkpoints, plots: Option<&Path>) -> anyhow::Result<bool> {
    ensure!(what.nodes >= 48, "{} nodes are too few for groups of 8 over 6 rows of cabinets: at least 48", what.nodes);
    let job = Job { nodes: what.nodes, ranks: what.nodes, work_s: what.hours * 3_600.0 };
    let failures = what.failures();
    let case = Case { job: &job, failures: &failures, runs: what.runs, seed: what.seed };
    say!(
        "{} nodes, {} h of work, writing {}; a light failure each {:.0} s, a node each {:.0} s, a group each {:.1} h; means of \
         {} runs",
        what.nodes,
        what.hours,
        if what.writing == Writing::Blocking { "while the application waits" } else { "in the background" },
        1.0 / failures.light(&job),
        1.0 / failures.fatal(&job),
        1.0 / failures.correlated(&job) / 3_600.0,
        what.runs
    )?;
    let mut good = true;
    let (mut gains, mut overheads) = (Vec::new(), Vec::new());
    for &levels in what.levels {
        let mut points: [Vec<(f64, f64)>; 2] = Default::default();
        let mut curves: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
        for &size in what.sizes {
            crate::interruption::check()?;
            let tried = case.all(&what.offers(levels, size * GB, failures.replace_s))?;
            say!("\n{levels} levels, {size} GB a node")?;
            say!("{:32}{:>10}{:>19}{:>9}{:>9}", "", "model", "simulated", "off", "saved")?;
            let (ours, others) = tried.split_last().ok_or_else(|| anyhow::anyhow!("no method"))?;
            for method in &tried {
                let saved = 1.0 - ours.simulated.value / method.simulated.value;
                let off = method.model / method.simulated.value - 1.0;
                say!(
                    "{:32}{:>10}{:>19}{:>9}{:>9}  {}",
                    method.name,
                    percent(Some(method.model)),
                    if method.simulated.value.is_finite() {
                        format!("{:.2} ± {:.2} %", 100.0 * method.simulated.value, 100.0 * method.simulated.error)
                    } else {
                        "never ends".into()
                    },
                    percent(Some(off).filter(|_| method.simulated.value.is_finite())),
                    percent(Some(saved).filter(|_| !std::ptr::eq(method, ours))),
                    method.what
                )?;
                let error = 2.0 * method.simulated.error / method.simulated.value;
                good &= !method.simulated.value.is_finite() || off.abs() <= OFF + error;
                match curves.iter_mut().find(|(name, _)| *name == method.name) {
                    Some((_, points)) => points.push((size, 100.0 * method.simulated.value)),
                    None => curves.push((method.name, vec![(size, 100.0 * method.simulated.value)])),
                }
            }
            for (points, model) in points.iter_mut().zip(["first order", "means"]) {
                let other = others.iter().find(|other| other.name.contains(model));
                points.extend(other.map(|other| (size, 100.0 * (1.0 - ours.simulated.value / other.simulated.value))));
            }
            let noise = |other: &Tried| 2.0 * (ours.simulated.error.powi(2) + other.simulated.error.powi(2)).sqrt();
            good &= others.iter().all(|other| ours.simulated.value <= other.simulated.value + noise(other));
        }
        let [first, means] = points;
        gains.push((format!("{levels} levels, than Di"), first));
        gains.push((format!("{levels} levels, than recursion"), means));
        overheads.push((levels, curves));
    }
    say!(
        "\nbound: each model within 3 % of the simulation's overhead (and two standard errors), ours never above another: {}",
        if good { "met" } else { "MISSED" }
    )?;
    let axes = || (Axis::logarithmic("GB a node", 2.0), Axis::linear("% less overhead"));
    let gains: Vec<(&str, Vec<(f64, f64)>)> =
        gains.iter().map(|(name, points)| (name.as_str(), points.clone())).collect();
    plot(plots, "checkpoint-gain", "Overhead that the choice of levels saves", axes(), &gains)?;
    for (levels, curves) in &overheads {
        let axes = (Axis::logarithmic("GB a node", 2.0), Axis::logarithmic("% overhead", 10.0));
        plot(plots, &format!("checkpoint-overhead-{levels}"), &format!("Overhead with {levels} levels"), axes, curves)?;
    }
    Ok(good)
}

fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".into(),
        Some(share) if share.is_finite() => format!("{:.2} %", 100.0 * share),
        Some(_) => "all".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_is_within_the_bounds_and_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let what = Checkpoints {
            nodes: 2_048,
            hours: 48.0,
            sizes: &[60.0],
            levels: &[3],
            rank_mtbf_hours: 1_000.0,
            node_mtbf_hours: 4_000.0,
            writing: Writing::Blocking,
            runs: 100,
            seed: 1,
        };
        assert!(checkpoints(&what, Some(folder.path())).unwrap());
        for name in ["checkpoint-gain.svg", "checkpoint-overhead-3.svg"] {
            assert!(std::fs::read_to_string(folder.path().join(name)).unwrap().contains("GB a node"), "{name}");
        }
        assert!(checkpoints(&Checkpoints { nodes: 40, ..what }, None).unwrap_err().to_string().contains("at least 48"));
    }
}
