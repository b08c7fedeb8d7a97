//! `gossip-mgr simulate`: the experiments, with tables, plots and their bounds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Subcommand;
use gossip_core::collective::Time;
use gossip_core::collective::correction::CorrectionKind;
use gossip_core::collective::topology::{Tree, TreeKind};
use gossip_core::node::Settings;
use gossip_sim::detection::{Detection, fail_stops, stalls};
use gossip_sim::experiments::{LOGP, gossip, overlapped, phased, sample};
use gossip_sim::fail_proof::{Check, Losses, check};
use gossip_sim::faults::Faults;
use gossip_sim::{allreduce, board};
use plotters::prelude::*;

use crate::shock::{self, Shock};
use gossip_balance::mesh::Mesh;

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct Args {
    /// Seed of all random choices.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    /// Folder for plots (SVG); none are drawn without.
    #[arg(long, global = true)]
    plots: Option<PathBuf>,
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Subcommand)]
enum Experiment {
    /// Broadcasts under LogP (L=2, o=g=1) with processes dead from the start.
    Broadcast {
        /// Processes, 2 to 2^24.
        #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(2..=1 << 24))]
        processes: u32,
        /// Runs for each figure with faults.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        runs: u64,
        /// Percent of processes that are dead.
        #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 2, 4],
              value_parser = clap::value_parser!(u32).range(0..=90))]
        dead: Vec<u32>,
    },
    /// Every fault set on small rings against the fail-proof stop rule.
    FailProof {
        /// Largest ring, 2 to 20; time grows by (starts + 1) to its power.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(2..=20))]
        processes: u32,
        /// Failures to survive, 1 to 19.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=19))]
        faults: u32,
        /// Moments at which correctors may start, 1 to 7.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=7))]
        starts: u8,
        /// Let failing processes lose any of their messages, which covers every moment of failure,
        /// instead of those that would have helped. Takes long above 10 processes.
        #[arg(long)]
        any_losses: bool,
    },
    /// Fault-tolerant allreduce: delay against serial faults.
    Allreduce {
        /// Time-out in LogP steps.
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(200..=1_000_000))]
        timeout: u64,
    },
    /// Age of the bulletin board against the model.
    Board {
        /// Window in rounds.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        window: u32,
        /// Rounds to measure.
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rounds: u32,
    },
    /// Time from a death to its detection.
    Detection {
        /// Nodes, 3 to 256.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(3..=256))]
        nodes: u32,
        /// Deaths.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        deaths: u32,
    },
    /// A fifth of the nodes stalls at all times: is anybody declared dead?
    Stalls {
        /// Nodes, 5 to 256.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=256))]
        nodes: u32,
        /// Simulated hours.
        #[arg(long, default_value_t = 24.0)]
        hours: f64,
        /// Longest stall in periods.
        #[arg(long, default_value_t = 3.0)]
        periods: f64,
    },
    /// A travelling shock wave, balanced by diffusion and beside it by RCB, METIS, Scotch and Zoltan.
    ///
    /// Takes minutes. A case of some seconds: --mesh 40x20x20 --steps 43 --parts 48
    Shock {
        /// Parts, 2 to 16384; several with commas between them run one after the other.
        #[arg(long, default_value = "384", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(2..=16_384))]
        parts: Vec<u32>,
        /// Tasks along each axis.
        #[arg(long, default_value = "160x80x80", value_parser = parse_mesh)]
        mesh: Mesh,
        /// Steps, 3 to 10000.
        #[arg(long, default_value_t = 169, value_parser = clap::value_parser!(u32).range(3..=10_000))]
        steps: u32,
        /// How often METIS, Scotch and Zoltan are measured, spread over the steps.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        samples: u32,
        /// Without METIS, Scotch and Zoltan.
        #[arg(long)]
        alone: bool,
        /// Width of the shell in tasks.
        #[arg(long, default_value_t = 4.0)]
        width: f64,
        /// Allowed imbalance.
        #[arg(long, default_value_t = 0.05)]
        tolerance: f64,
    },
}

fn parse_mesh(text: &str) -> Result<Mesh, String> {
    let sides: Option<Vec<usize>> = text.split('x').map(|side| side.parse().ok()).collect();
    match sides.as_deref() {
        Some(&[x, y, z]) if [x, y, z].iter().all(|side| (1..=1_000).contains(side)) => {
            let mesh = Mesh { size: [x, y, z] };
            let most = 10_000_000;
            if mesh.len() > most {
                return Err(format!("{} tasks; at most {most} are allowed", mesh.len()));
            }
            Ok(mesh)
        }
        _ => Err("three sides of 1 to 1000 tasks, as 160x80x80".into()),
    }
}

/// Runs an experiment; tells whether it met its bounds.
///
/// # Errors
/// If plots cannot be written, or parameters are absurd.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    match &args.experiment {
        Experiment::Broadcast {
            processes,
            runs,
            dead,
        } => broadcast(*processes, *runs, dead, args.plots.as_deref()),
        Experiment::FailProof {
            processes,
            faults,
            starts,
            any_losses,
        } => Ok(fail_proof(*processes, *faults, *starts, *any_losses)),
        Experiment::Allreduce { timeout } => reduce(*timeout),
        Experiment::Board { window, rounds } => {
            board_ages(*window, *rounds, args.seed, args.plots.as_deref())
        }
        Experiment::Detection { nodes, deaths } => detection(
            *nodes as usize,
            *deaths as usize,
            args.seed,
            args.plots.as_deref(),
        ),
        Experiment::Shock {
            parts,
            mesh,
            steps,
            samples,
            alone,
            width,
            tolerance,
        } => {
            ensure!(
                (0.001..=1.0).contains(tolerance),
                "--tolerance must be 0.001 to 1"
            );
            ensure!((0.0..=80.0).contains(width), "--width must be 0 to 80");
            let mut good = true;
            for &parts in parts {
                let shock = Shock {
                    mesh: *mesh,
                    parts,
                    steps: *steps,
                    samples: *samples,
                    width: *width,
                    tolerance: *tolerance,
                    alone: *alone,
                };
                good &= shock::run(&shock, args.plots.as_deref())?;
            }
            Ok(good)
        }
        Experiment::Stalls {
            nodes,
            hours,
            periods,
        } => {
            ensure!(
                *hours > 0.0 && *hours <= 10_000.0,
                "--hours must be above 0, at most 10000"
            );
            ensure!(
                *periods > 0.0 && *periods <= 100.0,
                "--periods must be above 0, at most 100"
            );
            let result = stalls(
                &Settings::default(),
                *nodes as usize,
                *hours,
                *periods,
                args.seed,
                |_| {},
            );
            println!("{}", serde_json::to_string_pretty(&result)?);
            Ok(result.false_deaths == 0)
        }
    }
}

fn broadcast(p: u32, runs: u64, dead: &[u32], plots: Option<&Path>) -> anyhow::Result<bool> {
    let optimised = |distance| CorrectionKind::Opportunistic {
        distance,
        optimised: true,
    };
    let mut plans = vec![
        (
            "phased checked binomial",
            phased(TreeKind::Binomial, p),
            true,
        ),
        (
            "phased checked Lame k=2",
            phased(TreeKind::Lame(2), p),
            true,
        ),
        ("phased checked optimal", phased(TreeKind::Optimal, p), true),
        (
            "checked gossip k=6",
            gossip(6, CorrectionKind::Checked, p),
            true,
        ),
    ];
    if p > 2 {
        let binomial = overlapped(TreeKind::Binomial, optimised(2), p);
        plans.push(("opportunistic binomial d=2", binomial, false));
    }
    if p > 4 {
        let kind = CorrectionKind::Opportunistic {
            distance: 4,
            optimised: false,
        };
        plans.push(("opportunistic gossip k=13 d=4", gossip(13, kind, p), false));
    }
    println!("{p} processes, messages a process / steps / live processes not reached (means)");
    let mut good = true;
    let mut curves = Vec::new();
    for (name, plan, guaranteed) in &plans {
        let mut points = Vec::new();
        for &percent in dead {
            let count = (u64::from(p) * u64::from(percent) / 100) as u32;
            let begin = Instant::now();
            let sample = sample(plan, LOGP, count, if count == 0 { 1 } else { runs });
            let ((load, _), (runtime, deviation)) = (sample.load(), sample.runtime());
            let unreached = sample.unreached();
            println!(
                "{name:30} {percent:2} % dead: {load:6.2} / {runtime:6.1} ± {deviation:4.1} / \
                 {unreached:.2}   ({:.2} s a run)",
                begin.elapsed().as_secs_f64() / sample.outcomes.len() as f64
            );
            good &= !guaranteed || unreached == 0.0;
            points.push((f64::from(percent), runtime));
        }
        curves.push((*name, points));
    }
    if let Some(folder) = plots {
        plot(
            &folder.join("broadcast.svg"),
            "Broadcast under LogP",
            "% dead",
            "steps",
            &curves,
        )?;
    }
    Ok(good)
}

fn fail_proof(processes: u32, faults: u32, starts: u8, any_losses: bool) -> bool {
    let losses = if any_losses {
        Losses::Any
    } else {
        Losses::Useful
    };
    for f in 1..=faults {
        for p in 2..=processes {
            let begin = Instant::now();
            let report = check(&Check {
                kind: CorrectionKind::FailProof { faults: f },
                processes: p,
                faults: f,
                losses,
                starts,
                delay: 1,
            });
            println!(
                "P = {p:2}, f = {f}: {} cases, {} executions, {:.1} s",
                report.cases,
                report.executions,
                begin.elapsed().as_secs_f64()
            );
            if let Some(found) = report.counter_example {
                println!("counter-example: {found:?}");
                return false;
            }
        }
    }
    true
}

fn reduce(timeout: Time) -> anyhow::Result<bool> {
    let mut good = true;
    println!("time-outs until all live processes have the sum (time-out {timeout} steps)");
    println!("     P   none  1 fault  2 serial  2 parallel  2 serial + 1   messages (1 fault)");
    for processes in [8, 16, 32, 64, 128, 256, 512, 1024] {
        let tree = Tree::new(TreeKind::Binomial, processes, LOGP)?;
        let run = |dead: &[u32]| {
            let failures: Vec<(u32, Time)> = dead.iter().map(|&rank| (rank, 0)).collect();
            let faults = Faults::explicit(processes, &failures);
            allreduce::run(&tree, LOGP, &faults, timeout, 100 * timeout)
        };
        // 1 is the parent of 3; 2 and 4 are in other subtrees.
        let cases = [
            (vec![], 0.0),
            (vec![1], 1.0),
            (vec![1, 3], 2.0),
            (vec![1, 2], 1.0),
            (vec![1, 3, 4], 2.0),
        ];
        let mut row = format!("{processes:6}");
        for (dead, serial) in &cases {
            let outcome = run(dead);
            let measured = outcome.latency as f64 / timeout as f64;
            row += &format!("   {measured:6.3}  ");
            good &= (measured - serial).abs() <= 0.1 * serial.max(1.0)
                && outcome.without_result + outcome.left_out + outcome.wrong == 0;
        }
        println!("{row}   {}", run(&[1]).messages);
    }
    Ok(good)
}

fn board_ages(window: u32, rounds: u32, seed: u64, plots: Option<&Path>) -> anyhow::Result<bool> {
    let mut good = true;
    let mut curves = Vec::new();
    for dead in [0.0, 0.1] {
        let (mut measured, mut expected) = (Vec::new(), Vec::new());
        for nodes in [64, 128, 256, 512, 1024] {
            let age = board::ages(nodes, window, dead, rounds, seed);
            println!(
                "n = {nodes:4}, {:2.0} % dead: mean age {:6.2} rounds, expected {:6.2} ({:+.1} %), \
                 {:.0} entries a push",
                dead * 100.0,
                age.measured,
                age.expected,
                age.deviation() * 100.0,
                age.entries
            );
            good &= age.deviation().abs() < 0.05;
            measured.push((f64::from(nodes).log2(), age.measured));
            expected.push((f64::from(nodes).log2(), age.expected));
        }
        let names = if dead == 0.0 {
            ("measured", "model")
        } else {
            ("measured, 10 % dead", "model, 10 % dead")
        };
        curves.extend([(names.0, measured), (names.1, expected)]);
    }
    if let Some(folder) = plots {
        plot(
            &folder.join("board.svg"),
            "Mean age of the board",
            "log2 n",
            "rounds",
            &curves,
        )?;
    }
    Ok(good)
}

fn detection(nodes: usize, deaths: usize, seed: u64, plots: Option<&Path>) -> anyhow::Result<bool> {
    let result = fail_stops(&Settings::default(), nodes, deaths, seed);
    let quantile = |times: &[f64], q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    for (name, times) in [("first node", &result.first), ("last node", &result.last)] {
        println!(
            "{name:10} knows after {:.2} (median), {:.2} (95 %), {:.2} (all) periods",
            quantile(times, 0.5),
            quantile(times, 0.95),
            quantile(times, 1.0)
        );
    }
    let within = Detection::share(&result.first, 5.0);
    println!(
        "{:.1} % of {deaths} deaths detected within 5 periods",
        within * 100.0
    );
    if let Some(folder) = plots {
        let cdf = |times: &[f64]| -> Vec<(f64, f64)> {
            let n = times.len() as f64;
            times
                .iter()
                .enumerate()
                .map(|(i, &t)| (t, (i + 1) as f64 / n))
                .collect()
        };
        let curves = [
            ("first node", cdf(&result.first)),
            ("last node", cdf(&result.last)),
        ];
        plot(
            &folder.join("detection.svg"),
            "Detection of deaths",
            "periods",
            "share",
            &curves,
        )?;
    }
    Ok(within >= 0.95)
}

type Curve<'a> = (&'a str, Vec<(f64, f64)>);

fn plot(path: &Path, title: &str, x: &str, y: &str, curves: &[Curve]) -> anyhow::Result<()> {
    let finite = || {
        curves
            .iter()
            .flat_map(|(_, c)| c)
            .filter(|(x, y)| (x + y).is_finite())
    };
    let x_most = finite().map(|p| p.0).fold(0.0, f64::max).max(1e-9);
    let y_most = finite().map(|p| p.1).fold(0.0, f64::max).max(1e-9) * 1.1;
    let x_least = finite().map(|p| p.0).fold(x_most, f64::min);
    let x_least = if x_least == x_most { 0.0 } else { x_least };
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, (900, 560)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(52)
            .build_cartesian_2d(x_least..x_most, 0.0..y_most)?;
        chart.configure_mesh().x_desc(x).y_desc(y).draw()?;
        for (i, (name, points)) in curves.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
