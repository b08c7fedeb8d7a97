//! `gossip-mgr simulate shock`: diffusion beside other ways to repartition, in one run.

mod opponents;
mod picture;
mod progress;
mod relabel;
mod report;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use gossip_balance::mesh::Mesh;
use gossip_balance::metrics::quality;
use gossip_balance::{Options, rebalance};
use nix::time::{ClockId, clock_gettime};

use crate::interruption::check;
use opponents::Opponents;
pub use opponents::{Method, missing_packages};
use picture::Picture;
use progress::Progress;
use relabel::relabel;
use report::{Row, print_table, verdict};

/// What to run.
pub struct Shock {
    /// The mesh of tasks.
    pub mesh: Mesh,
    /// Parts.
    pub parts: u32,
    /// Steps of the scenario, at least 3.
    pub steps: u32,
    /// How often the opponents are measured, spread over the steps; each time they run in two
    /// steps in a row, so that the migration is that of one step.
    pub samples: u32,
    /// Width of the shell in tasks.
    pub width: f64,
    /// Balance tolerance.
    pub tolerance: f64,
    /// Which opponents to run.
    pub against: Vec<Method>,
}

impl Shock {
    /// The steps in which the opponents are measured. They run in those before, too.
    fn sampled(&self) -> BTreeSet<u32> {
        let (steps, samples) = (u64::from(self.steps), u64::from(self.samples));
        (0..samples).map(|n| ((2 * n + 1) * steps / (2 * samples)).clamp(2, steps - 1) as u32).collect()
    }

    /// The tolerance and one task of weight 4, as an imbalance.
    fn allowed_imbalance(&self, weights: &[f32]) -> f64 {
        let load: f64 = weights.iter().copied().map(f64::from).sum();
        self.tolerance + 4.0 / (load / f64::from(self.parts))
    }
}

/// One opponent with its own partition.
struct Rival {
    method: Method,
    owner: Vec<u32>,
    row: Row,
}

/// Runs the scenario and prints the table; tells whether diffusion met its bounds: the tolerance plus one task
/// in every step, and against each of the others that balances, over the same steps, a third of the migration
/// and 1.1 times the edge-cut. Without some of the opponents it did not.
///
/// # Errors
/// If the opponents are not installed or fail, or a picture cannot be written.
pub fn run(shock: &Shock, plots: Option<&Path>) -> anyhow::Result<bool> {
    let met = compare(shock, plots);
    // Ctrl-C reaches the opponents as well: that they ended then is no news.
    check()?;
    met
}

fn compare(shock: &Shock, plots: Option<&Path>) -> anyhow::Result<bool> {
    let (mesh, parts) = (shock.mesh, shock.parts);
    ensure!(mesh.len() >= 8 * parts as usize, "{} tasks are too few for {parts} parts: at least 8 a part", mesh.len());
    let options = Options { tolerance: shock.tolerance, ..Options::default() };
    let weights = |step| mesh.shock(step, shock.steps, shock.width);
    let mut graph = mesh.graph(weights(0))?;
    let start = mesh.bisect(&weights(0), parts);
    let mut opponents = None;
    let mut rivals = Vec::new();
    if !shock.against.is_empty() {
        opponents = Some(Opponents::start(mesh, &graph, parts, shock.tolerance)?);
        rivals.extend(shock.against.iter().map(|&method| Rival {
            method,
            owner: start.clone(),
            row: Row::new(method.name()),
        }));
    }
    let (mut ours, mut bisection) = (Row::new("diffusion"), Row::new("RCB (ours)"));
    let (mut diffused, mut bisected) = (start.clone(), start);
    let sampled = shock.sampled();
    let mut pictures = Vec::new();
    let mut progress = Progress::new(parts, shock.steps - 1);
    for step in 1..shock.steps {
        let now = weights(step);
        graph.set_weights(now.clone())?;
        let allowed = shock.allowed_imbalance(&now);
        let measure = |row: &mut Row, old: &[u32], new: &[u32], seconds| {
            row.push(step, quality(&graph, old, new, parts), allowed, seconds);
        };
        check()?;
        progress.tell(step, "diffusion");

        let before = [diffused.clone(), bisected];
        let begin = processor_time()?;
        rebalance(&graph, &mut diffused, parts, &options)?;
        let middle = processor_time()?;
        bisected = mesh.bisect(&now, parts);
        let end = processor_time()?;
        relabel(&before[1], &mut bisected, parts);
        measure(&mut ours, &before[0], &diffused, (middle - begin).as_secs_f64());
        measure(&mut bisection, &before[1], &bisected, (end - middle).as_secs_f64());

        let measured = sampled.contains(&step);
        if let Some(opponents) = &mut opponents
            && (measured || sampled.contains(&(step + 1)))
        {
            for rival in &mut rivals {
                check()?;
                progress.tell(step, rival.method.name());
                let old = rival.owner.clone();
                let seconds = opponents.repartition(rival.method, &graph, &mut rival.owner, parts)?;
                relabel(&old, &mut rival.owner, parts);
                if measured {
                    measure(&mut rival.row, &old, &rival.owner, seconds);
                }
            }
        }
        if plots.is_some() && step % (shock.steps / 4).max(1) == 0 {
            let after = [diffused.as_slice(), &bisected];
            pictures.push(Picture::new(step, mesh, &now, &before, after));
        }
    }
    drop(progress);
    if let Some(folder) = plots {
        let path = folder.join(format!("shock-{parts}.svg"));
        picture::draw(&path, mesh, &pictures)
            .map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))?;
        say!("wrote {}", path.display())?;
    }
    let mut others = vec![bisection];
    others.extend(rivals.into_iter().map(|rival| rival.row));
    print_table(shock, &ours, &others)?;
    let met = verdict(&ours, &others)?;
    let missing: Vec<&str> =
        Method::value_variants().iter().filter(|method| !shock.against.contains(method)).map(|m| m.name()).collect();
    if !missing.is_empty() {
        say!("no verdict: not compared with {}", missing.join(", "))?;
    }
    Ok(met && missing.is_empty())
}

/// What this process has used so far. Of a shared machine the wall clock tells little.
fn processor_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Ok(time.context("no clock of processor time")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(parts: u32) -> Shock {
        Shock {
            mesh: Mesh { size: [40, 20, 20] },
            parts,
            steps: 43,
            samples: 10,
            width: 4.0,
            tolerance: 0.05,
            against: Vec::new(),
        }
    }

    #[test]
    fn a_case_draws_each_quarter_and_has_no_verdict_without_opponents() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!run(&small(48), Some(folder.path())).unwrap());
        let picture = std::fs::read_to_string(folder.path().join("shock-48.svg")).unwrap();
        for step in [10, 20, 30, 40] {
            assert!(picture.contains(&format!("step {step}:")), "step {step}");
        }
    }

    #[test]
    fn too_many_parts_are_refused() {
        let error = run(&small(2_001), None).unwrap_err().to_string();
        assert!(error.contains("2001 parts"), "{error}");
    }
}
