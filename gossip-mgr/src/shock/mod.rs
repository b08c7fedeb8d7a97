//! `gossip-mgr simulate shock`: diffusion beside other ways to repartition, in one run.

mod opponents;
mod picture;
mod progress;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use gossip_balance::mesh::Mesh;
use gossip_balance::metrics::{Quality, quality};
use gossip_balance::{Options, TaskGraph, rebalance};
use nix::time::{ClockId, clock_gettime};

use opponents::{Method, Opponents};
use picture::Picture;
use progress::Progress;

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
    /// Without METIS, Scotch and Zoltan.
    pub alone: bool,
}

impl Shock {
    /// The steps in which the opponents are measured. They run in those before, too.
    fn sampled(&self) -> BTreeSet<u32> {
        let (steps, samples) = (u64::from(self.steps), u64::from(self.samples));
        (0..samples).map(|n| ((2 * n + 1) * steps / (2 * samples)).clamp(2, steps - 1) as u32).collect()
    }

    /// The tolerance and one task of weight 4, as an imbalance.
    fn allowed_imbalance(&self, graph: &TaskGraph) -> f64 {
        let load: f64 = (0..graph.len()).map(|task| f64::from(graph.weight(task))).sum();
        self.tolerance + 4.0 / (load / f64::from(self.parts))
    }
}

/// A row of the table.
struct Row {
    name: &'static str,
    results: Vec<Quality>,
    seconds: Vec<f64>,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, results: Vec::new(), seconds: Vec::new() }
    }

    fn push(&mut self, quality: Quality, seconds: f64) {
        self.results.push(quality);
        self.seconds.push(seconds);
    }

    fn mean(&self, of: impl Fn(&Quality) -> f64) -> f64 {
        self.results.iter().map(of).sum::<f64>() / self.results.len().max(1) as f64
    }

    fn median_seconds(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// One opponent with its own partition.
struct Rival {
    method: Method,
    owner: Vec<u32>,
    row: Row,
}

/// Runs the scenario and prints the table; tells whether diffusion met its bounds against the best
/// of the others: a third of the migration, 1.1 times the edge-cut, tolerance plus one task.
///
/// # Errors
/// If the opponents are not installed or fail, or a picture cannot be written.
pub fn run(shock: &Shock, plots: Option<&Path>) -> anyhow::Result<bool> {
    let (mesh, parts) = (shock.mesh, shock.parts);
    ensure!(mesh.len() >= 8 * parts as usize, "{} tasks are too few for {parts} parts: at least 8 a part", mesh.len());
    let options = Options { tolerance: shock.tolerance, ..Options::default() };
    let weights = |step| mesh.shock(step, shock.steps, shock.width);
    let mut graph = mesh.graph(weights(0))?;
    let start = mesh.bisect(&weights(0), parts);
    let mut opponents = None;
    let mut rivals = Vec::new();
    if !shock.alone {
        opponents = Some(Opponents::start(mesh, &graph, parts, shock.tolerance)?);
        rivals.extend(Method::ALL.map(|method| Rival { method, owner: start.clone(), row: Row::new(method.name()) }));
    }
    let (mut ours, mut bisection) = (Row::new("diffusion"), Row::new("RCB (ours)"));
    let (mut diffused, mut bisected) = (start.clone(), start);
    let sampled = shock.sampled();
    let mut pictures = Vec::new();
    let mut progress = Progress::new(parts, shock.steps - 1);
    for step in 1..shock.steps {
        let now = weights(step);
        graph.set_weights(now.clone())?;
        progress.tell(step, "diffusion");

        let before = [diffused.clone(), bisected];
        let begin = processor_time()?;
        rebalance(&graph, &mut diffused, parts, &options)?;
        let middle = processor_time()?;
        bisected = mesh.bisect(&now, parts);
        let end = processor_time()?;
        let result = |old: &[u32], new: &[u32]| quality(&graph, old, new, parts);
        let seconds = (middle - begin).as_secs_f64();
        ours.push(result(&before[0], &diffused), seconds);
        bisection.push(result(&before[1], &bisected), (end - middle).as_secs_f64());

        let measured = sampled.contains(&step);
        if let Some(opponents) = &mut opponents
            && (measured || sampled.contains(&(step + 1)))
        {
            for rival in &mut rivals {
                progress.tell(step, rival.method.name());
                let old = rival.owner.clone();
                let seconds = opponents.repartition(rival.method, &graph, &mut rival.owner, parts)?;
                if rival.method.starts_afresh() {
                    relabel(&old, &mut rival.owner, parts);
                }
                if measured {
                    rival.row.push(result(&old, &rival.owner), seconds);
                }
            }
        }
        if plots.is_some() && step % (shock.steps / 4).max(1) == 0 {
            let after = [diffused.as_slice(), &bisected];
            pictures.push(Picture::new(step, mesh, &now, &before, after));
        }
    }
    progress.clear();
    if let Some(folder) = plots {
        let path = folder.join(format!("shock-{parts}.svg"));
        picture::draw(&path, mesh, &pictures)
            .map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    let mut others = vec![bisection];
    others.extend(rivals.into_iter().map(|rival| rival.row));
    print_table(shock, &ours, &others);
    Ok(verdict(shock.allowed_imbalance(&graph), &ours, &others))
}

/// What this process has used so far. Of a shared machine the wall clock tells little.
fn processor_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Ok(time.context("no clock of processor time")?.into())
}

fn print_table(shock: &Shock, ours: &Row, others: &[Row]) {
    let [x, y, z] = shock.mesh.size;
    println!(
        "Shock {x}x{y}x{z} tasks, {} steps, shell {} tasks wide with load 4, front moves {:.3} tasks \
         a step, {} parts, tolerance {}",
        shock.steps,
        shock.width,
        shock.mesh.front_speed(shock.steps),
        shock.parts,
        shock.tolerance
    );
    println!(
        "{:24}{:>6}{:>11}{:>11}{:>10}{:>10}{:>8}",
        "means over steps", "steps", "imbalance", "migration", "edge-cut", "CPU s", "ratio"
    );
    for row in std::iter::once(ours).chain(others) {
        println!(
            "{:24}{:>6}{:>11.4}{:>11.4}{:>10.4}{:>10.3}{:>8.2}",
            row.name,
            row.results.len(),
            row.mean(|q| q.imbalance),
            row.mean(|q| q.migration),
            row.mean(|q| q.edge_cut),
            row.median_seconds(),
            row.median_seconds() / ours.median_seconds()
        );
    }
    println!("CPU s: median, one core for all parts; ratio: to that of diffusion");
}

fn verdict(allowed_imbalance: f64, ours: &Row, others: &[Row]) -> bool {
    let mut good = true;
    let mut judge = |name: &str, value: f64, bound: f64, against: &str| {
        let met = value <= bound;
        good &= met;
        let word = if met { "met" } else { "MISSED" };
        println!("{name}: {value:.3}{against}, bound {bound:.3}: {word}");
    };
    judge("imbalance", ours.mean(|q| q.imbalance), allowed_imbalance, "");
    type Figure = fn(&Quality) -> f64;
    let (migration, edge_cut): (Figure, Figure) = (|q| q.migration, |q| q.edge_cut);
    for (name, figure, bound) in [("migration", migration, 1.0 / 3.0), ("edge-cut", edge_cut, 1.1)] {
        // Who does not balance may well move little.
        let best = others
            .iter()
            .filter(|row| row.mean(|q| q.imbalance) <= allowed_imbalance)
            .min_by(|a, b| a.mean(figure).total_cmp(&b.mean(figure)));
        if let Some(best) = best {
            let against = format!(" of that of {}, the best that balances", best.name);
            judge(name, ours.mean(figure) / best.mean(figure), bound, &against);
        }
    }
    good
}

/// Renames the parts of `new` so that most tasks stay where they were: greedily by overlap.
fn relabel(old: &[u32], new: &mut [u32], parts: u32) {
    let mut overlap = std::collections::BTreeMap::new();
    for (&a, &b) in old.iter().zip(new.iter()) {
        *overlap.entry((b, a)).or_insert(0u32) += 1;
    }
    let mut pairs: Vec<_> = overlap.into_iter().collect();
    pairs.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
    let mut name = vec![None; parts as usize];
    let mut taken = vec![false; parts as usize];
    for ((b, a), _) in pairs {
        if name[b as usize].is_none() && !taken[a as usize] {
            name[b as usize] = Some(a);
            taken[a as usize] = true;
        }
    }
    let mut free = (0..parts).filter(|&a| !taken[a as usize]);
    let names: Vec<u32> = name.into_iter().map(|n| n.or_else(|| free.next()).unwrap_or_default()).collect();
    new.iter_mut().for_each(|part| *part = names[*part as usize]);
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
            alone: true,
        }
    }

    #[test]
    fn a_small_case_meets_its_bounds_and_draws_each_quarter() {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&small(48), Some(folder.path())).unwrap());
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

    #[test]
    fn parts_are_renamed_after_those_that_they_overlap_most() {
        let mut new = [2, 2, 2, 0, 0, 1];
        relabel(&[0, 0, 0, 1, 1, 1], &mut new, 3);
        assert_eq!(new, [0, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn one_method_that_is_worse_than_its_bound_fails_the_verdict() {
        let row = |name, imbalance, migration, edge_cut| {
            let mut row = Row::new(name);
            row.push(Quality { imbalance, migration, edge_cut }, 1.0);
            row
        };
        let others = [row("good", 0.05, 3.0, 0.1), row("unbalanced", 0.5, 0.0, 0.01)];
        assert!(verdict(0.06, &row("ours", 0.06, 1.0, 0.11), &others));
        assert!(!verdict(0.06, &row("ours", 0.07, 1.0, 0.11), &others));
        assert!(!verdict(0.06, &row("ours", 0.06, 1.1, 0.11), &others));
        assert!(!verdict(0.06, &row("ours", 0.06, 1.0, 0.12), &others));
    }
}
