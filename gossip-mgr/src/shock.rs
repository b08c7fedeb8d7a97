//! `gossip-mgr simulate shock`: diffusion against other ways to repartition, in one run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use gossip_balance::mesh::Mesh;
use gossip_balance::metrics::{Quality, quality};
use gossip_balance::{Options, TaskGraph, rebalance};
use plotters::prelude::*;

/// What to run.
pub struct Shock {
    /// Parts.
    pub parts: u32,
    /// Steps of the scenario.
    pub steps: u32,
    /// Only every so manyth step goes through METIS, which takes seconds.
    pub metis_every: u32,
    /// Width of the shell in tasks.
    pub width: f64,
    /// Balance tolerance.
    pub tolerance: f64,
}

#[derive(Default)]
struct Method {
    name: &'static str,
    results: Vec<Quality>,
    seconds: Vec<f64>,
}

impl Method {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
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

/// Runs the scenario and prints the table; tells whether diffusion met its bounds against the best
/// of the others: a third of the migration, 1.1 times the edge-cut, tolerance plus one task.
///
/// # Errors
/// If METIS is installed and fails, or a picture cannot be written.
pub fn run(shock: &Shock, plots: Option<&Path>) -> anyhow::Result<bool> {
    let mesh = Mesh::SHOCK;
    let parts = shock.parts;
    let options = Options {
        tolerance: shock.tolerance,
        ..Options::default()
    };
    let first = mesh.shock(0, shock.steps, shock.width);
    let mut diffused = mesh.bisect(&first, parts);
    let mut bisected = diffused.clone();
    let mut cut: Option<Vec<u32>> = None;
    let has_metis = Command::new("gpmetis")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    let mut graph = mesh.graph(first)?;
    let (mut ours, mut rcb, mut metis) = (
        Method::new("diffusion"),
        Method::new("RCB"),
        Method::new("METIS, relabelled"),
    );
    let mut pictures = Vec::new();
    for step in 1..shock.steps {
        let weights = mesh.shock(step, shock.steps, shock.width);
        graph.set_weights(weights.clone())?;

        let before = diffused.clone();
        let begin = Instant::now();
        rebalance(&graph, &mut diffused, parts, &options)?;
        ours.seconds.push(begin.elapsed().as_secs_f64());
        ours.results
            .push(quality(&graph, &before, &diffused, parts));

        let begin = Instant::now();
        let new = mesh.bisect(&weights, parts);
        rcb.seconds.push(begin.elapsed().as_secs_f64());
        rcb.results.push(quality(&graph, &bisected, &new, parts));
        bisected = new;

        // Two steps in a row, so that the migration is that of one step.
        if has_metis && shock.metis_every > 0 && step % shock.metis_every < 2 {
            let begin = Instant::now();
            let mut new = gpmetis(&graph, parts, shock.tolerance)?;
            metis.seconds.push(begin.elapsed().as_secs_f64());
            if let (Some(old), true) = (&cut, step % shock.metis_every == 1) {
                relabel(old, &mut new, parts);
                metis.results.push(quality(&graph, old, &new, parts));
            }
            cut = Some(new);
        }
        if step % (shock.steps / 4).max(1) == 0 {
            pictures.push((step, weights, diffused.clone()));
        }
    }
    println!(
        "Shock 160x80x80, {} steps, shell {} tasks wide with load 4, front moves {:.3} tasks a step, \
         {parts} parts, tolerance {}",
        shock.steps,
        shock.width,
        1.1 * 80.0 / f64::from(shock.steps.max(2) - 1),
        shock.tolerance
    );
    println!(
        "means over steps       imbalance  migration  edge-cut   median s  (one core, all parts)"
    );
    for method in [&ours, &rcb, &metis] {
        if !method.results.is_empty() {
            println!(
                "{:20} {:10.4} {:10.4} {:9.4} {:10.3}",
                method.name,
                method.mean(|q| q.imbalance),
                method.mean(|q| q.migration),
                method.mean(|q| q.edge_cut),
                method.median_seconds()
            );
        }
    }
    if !has_metis {
        println!("METIS is not installed (Debian package metis): left out");
    }
    if let Some(folder) = plots {
        draw(&folder.join("shock.svg"), mesh, parts, &pictures)?;
    }
    let others = || [&rcb, &metis].into_iter().filter(|m| !m.results.is_empty());
    let best = |of: fn(&Quality) -> f64| others().map(|m| m.mean(of)).fold(f64::INFINITY, f64::min);
    let one_task = 4.0 / (graph_load(&graph) / f64::from(parts));
    let figures = [
        (
            "migration",
            ours.mean(|q| q.migration) / best(|q| q.migration),
            1.0 / 3.0,
        ),
        (
            "edge-cut",
            ours.mean(|q| q.edge_cut) / best(|q| q.edge_cut),
            1.1,
        ),
        (
            "imbalance",
            ours.mean(|q| q.imbalance),
            shock.tolerance + one_task,
        ),
    ];
    let mut good = true;
    for (name, value, bound) in figures {
        let met = value <= bound;
        let against = if name == "imbalance" {
            ""
        } else {
            " of the best other"
        };
        println!(
            "{name}: {value:.3}{against}, bound {bound:.3}: {}",
            if met { "met" } else { "MISSED" }
        );
        good &= met;
    }
    Ok(good)
}

fn graph_load(graph: &TaskGraph) -> f64 {
    (0..graph.len())
        .map(|task| f64::from(graph.weight(task)))
        .sum()
}

/// Partitions from scratch with METIS's program, through files.
fn gpmetis(graph: &TaskGraph, parts: u32, tolerance: f64) -> anyhow::Result<Vec<u32>> {
    let dir = std::env::temp_dir().join(format!("gossip-mgr-metis-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let file = dir.join("graph");
    let edges: usize = (0..graph.len()).map(|task| graph.edges(task).count()).sum();
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file)?);
    writeln!(out, "{} {} 010", graph.len(), edges / 2)?;
    for task in 0..graph.len() {
        write!(out, "{}", graph.weight(task) as u32)?;
        for (other, _) in graph.edges(task) {
            write!(out, " {}", other + 1)?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    let status = Command::new("gpmetis")
        .arg(format!(
            "-ufactor={}",
            (tolerance * 1_000.0).max(1.0) as u32
        ))
        .arg(&file)
        .arg(parts.to_string())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("gpmetis failed: {status}");
    }
    let text = std::fs::read_to_string(dir.join(format!("graph.part.{parts}")))?;
    std::fs::remove_dir_all(&dir)?;
    text.lines()
        .map(|line| line.trim().parse().context("gpmetis's output"))
        .collect()
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
    let names: Vec<u32> = name
        .into_iter()
        .map(|n| n.or_else(|| free.next()).unwrap_or_default())
        .collect();
    new.iter_mut()
        .for_each(|part| *part = names[*part as usize]);
}

/// The middle layer at some steps: colours are parts, darker where the load is high.
fn draw(
    path: &Path,
    mesh: Mesh,
    parts: u32,
    pictures: &[(u32, Vec<f32>, Vec<u32>)],
) -> anyhow::Result<()> {
    let [width, height, depth] = mesh.size;
    let scale = 5;
    let rows = (height * scale + 30) as u32;
    let size = ((width * scale) as u32, rows * pictures.len().max(1) as u32);
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, size).into_drawing_area();
        area.fill(&WHITE)?;
        for (panel, (step, weights, owner)) in area
            .split_evenly((pictures.len().max(1), 1))
            .iter()
            .zip(pictures)
        {
            let panel = panel.titled(&format!("step {step}"), ("sans-serif", 16))?;
            for y in 0..height {
                let look = |x: usize| {
                    let task = x + width * (y + height * (depth / 2));
                    (owner[task], weights[task] > 1.0)
                };
                let mut x = 0;
                while x < width {
                    let begin = x;
                    while x < width && look(x) == look(begin) {
                        x += 1;
                    }
                    let (part, loaded) = look(begin);
                    let hue = f64::from(part.wrapping_mul(2_654_435_761) % 997) / 997.0;
                    let colour = HSLColor(hue, 0.6, if loaded { 0.35 } else { 0.75 });
                    let corners = [
                        ((begin * scale) as i32, (y * scale) as i32),
                        ((x * scale) as i32, ((y + 1) * scale) as i32),
                    ];
                    panel.draw(&Rectangle::new(corners, colour.filled()))?;
                }
            }
        }
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))?;
    println!("wrote {} ({parts} parts)", path.display());
    Ok(())
}
