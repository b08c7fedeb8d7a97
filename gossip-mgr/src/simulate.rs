//! `gossip-mgr simulate`: the experiments, with tables, plots and their bounds.

mod axis;
mod checkpoints;
mod collectives;
mod coordinator;
mod nodes;
mod overhead;
mod plot;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use gossip_sim::experiments::When;
use gossip_sim::fail_proof::Losses;

use crate::interruption;
use crate::shock::{self, Method, Shock};
use gossip_balance::mesh::Mesh;

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct Args {
    /// Seed of all random choices; fail-proof, allreduce and shock make none.
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
    /// Broadcasts under LogP (L=2, o=g=1) with failing processes: cost, and the share reached.
    ///
    /// Every way to spread (trees, gossip) with every correction. Bound: what an algorithm promises.
    Broadcast {
        /// Processes, 8 to 2^24.
        #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(8..=1 << 24))]
        processes: u32,
        /// Runs for each figure with faults.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        runs: u64,
        /// Percent of processes that fail.
        #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 2, 4],
              value_parser = clap::value_parser!(u32).range(0..=90))]
        dead: Vec<u32>,
        /// They fail at random moments during the broadcast, not before.
        #[arg(long)]
        online: bool,
        /// f of fail-proof correction; each process sends at least about 2 f messages.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1_000))]
        faults: u32,
        /// Only algorithms whose name contains this, as "phased checked".
        #[arg(long, value_name = "NAME", default_value = "")]
        only: String,
    },
    /// Every fault set on small rings against the fail-proof stop rule.
    ///
    /// Bound: no counter-example.
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
    /// Fault-tolerant allreduce: delay against serial faults, and a root that dies at every moment.
    ///
    /// Bound: the longest serial chain of faults times the time-out, within 10 %; one result.
    Allreduce {
        /// Time-out in LogP steps.
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(200..=1_000_000))]
        timeout: u64,
    },
    /// Age of the bulletin board against the model.
    ///
    /// Bound: within 5 %, for 64 to 1,024 nodes, with none and with 10 % dead.
    Board {
        /// Window in rounds.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        window: u32,
        /// Rounds to measure.
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rounds: u32,
    },
    /// Colonies and masters: boards alone with many nodes, and whole nodes with fewer.
    ///
    /// Bound: ages of the boards alone within 5 % of the model; nobody missing, nobody astray.
    Colonies {
        /// Nodes of which only the boards are simulated, 8 to 65536.
        #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(8..=65_536))]
        nodes: u32,
        /// Largest colony of them, 2 to 4096.
        #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(2..=4_096))]
        colony: u32,
        /// Nodes that are simulated whole, in four colonies, 8 to 1024.
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=1_024))]
        whole: u32,
        /// Window in rounds.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        window: u32,
    },
    /// CPU time of a real daemon that is given the traffic of simulated peers.
    ///
    /// Bound: under 1 % of a core with the most peers. Takes about 45 s for each number of peers.
    Overhead {
        /// Numbers of peers, 0 to 1023 each.
        #[arg(long, value_delimiter = ',', default_values_t = [0, 63, 255, 1_023],
              value_parser = clap::value_parser!(u16).range(0..=1_023))]
        peers: Vec<u16>,
        /// Seconds to measure, after the daemon has settled.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// Gossip interval in milliseconds.
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(10..=1_000))]
        interval_ms: u64,
        /// Cores that each peer reports.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_024))]
        cores: u16,
    },
    /// Time from a death to its detection.
    ///
    /// Bound: all other nodes know of 95 % of the deaths within five periods.
    Detection {
        /// Nodes, 3 to 1024; time grows with their square.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(3..=1_024))]
        nodes: u32,
        /// Deaths.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        deaths: u32,
    },
    /// A fifth of the nodes stalls at all times: is anybody declared dead?
    ///
    /// Bound: nobody.
    Stalls {
        /// Nodes, 5 to 256.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=256))]
        nodes: u32,
        /// Simulated hours, 0.001 to 10000.
        #[arg(long, default_value_t = 24.0, value_parser = |text: &str| number(text, 0.001..=10_000.0))]
        hours: f64,
        /// Longest stall in periods, 0.001 to 100.
        #[arg(long, default_value_t = 3.0, value_parser = |text: &str| number(text, 0.001..=100.0))]
        periods: f64,
    },
    /// Levels and intervals of checkpoints: ours beside Young, Daly, two-level and multi-level models, all simulated.
    ///
    /// Bound: the model within 3 % of the simulation's overhead, and ours never above another.
    Checkpoints {
        /// Nodes, 48 to 1000000, with a rank each.
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(48..=1_000_000))]
        nodes: u32,
        /// Hours of work, 1 to 10000.
        #[arg(long, default_value_t = 120.0, value_parser = |text: &str| number(text, 1.0..=10_000.0))]
        hours: f64,
        /// Checkpoints in GB a node, 0.001 to 10000 each.
        #[arg(long, value_delimiter = ',', default_values_t = [6.0, 15.0, 30.0, 60.0, 118.0, 240.0],
              value_parser = |text: &str| number(text, 0.001..=10_000.0))]
        sizes: Vec<f64>,
        /// Numbers of levels: 3 (local, XOR, file system), 4 (and partner), 5 (and burst buffer).
        #[arg(long, value_delimiter = ',', default_values_t = [3, 4, 5],
              value_parser = clap::value_parser!(u8).range(3..=5))]
        levels: Vec<u8>,
        /// Mean hours to a rank's failure, 1 to 10^9.
        #[arg(long, default_value_t = 1_000.0, value_parser = |text: &str| number(text, 1.0..=1e9))]
        rank_mtbf: f64,
        /// Mean hours to a node's failure, 1 to 10^9.
        #[arg(long, default_value_t = 8_000.0, value_parser = |text: &str| number(text, 1.0..=1e9))]
        node_mtbf: f64,
        /// How what leaves the node is written.
        #[arg(long, value_enum, default_value = "blocking")]
        writing: checkpoints::Writing,
        /// Runs for each figure.
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(2..=100_000))]
        runs: u64,
    },
    /// Jobs that share storage for checkpoints: each by itself, in turn as they come, and as our coordinator plans it.
    ///
    /// Bound: planned is never worse than each by itself, and saves a tenth of the overhead where the storage is in demand
    /// for half of the time.
    Coordinator {
        /// Which jobs.
        #[arg(long, value_enum, default_value = "apex")]
        mix: coordinator::Mix,
        /// Years between failures of a node, 0.01 to 1000.
        #[arg(long, default_value_t = 2.0, value_parser = |text: &str| number(text, 0.01..=1_000.0))]
        node_mtbf: f64,
        /// Gigabytes a second of the storage, 0.001 to 10^6 each.
        #[arg(long, value_delimiter = ',', default_values_t = [640.0, 320.0, 160.0, 120.0, 80.0],
              value_parser = |text: &str| number(text, 0.001..=1e6))]
        bandwidths: Vec<f64>,
        /// Simulated days, 1 to 10000.
        #[arg(long, default_value_t = 60.0, value_parser = |text: &str| number(text, 1.0..=10_000.0))]
        days: f64,
        /// Runs for each figure.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=10_000))]
        runs: u64,
    },
    /// A travelling shock wave, balanced by diffusion and beside it by RCB, METIS, Scotch and Zoltan.
    ///
    /// Bound: a third of the migration and 1.1 times the edge-cut of each other that balances; the tolerance plus one
    /// task in each step. Takes minutes. A case of some seconds: --mesh 40x20x20 --steps 43 --parts 48
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
        /// How often METIS, Scotch and Zoltan are measured, spread over the steps; as many as there are steps: always.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        samples: u32,
        /// Only these of METIS, Scotch and Zoltan; then there is no verdict, and the status is 5.
        #[arg(long, value_enum, value_delimiter = ',')]
        against: Vec<Method>,
        /// Without any of them; as above.
        #[arg(long, conflicts_with = "against")]
        alone: bool,
        /// Width of the shell in tasks, 0 to 80.
        #[arg(long, default_value_t = 4.0, value_parser = |text: &str| number(text, 0.0..=80.0))]
        width: f64,
        /// Allowed imbalance, 0.001 to 1.
        #[arg(long, default_value_t = 0.05, value_parser = |text: &str| number(text, 0.001..=1.0))]
        tolerance: f64,
    },
}

fn number(text: &str, allowed: RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().map_err(|_| "not a number".to_owned())?;
    match allowed.contains(&number) {
        true => Ok(number),
        false => Err(format!("{number} is not in {}..={}", allowed.start(), allowed.end())),
    }
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
/// If plots cannot be written, or the machine lacks what an experiment needs.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let plots = args.plots.as_deref();
    match &args.experiment {
        Experiment::Broadcast { processes, runs, dead, online, faults, only } => collectives::broadcast(
            &collectives::Broadcasts {
                processes: *processes,
                runs: *runs,
                percents: dead,
                when: if *online { When::During } else { When::Before },
                faults: *faults,
                only,
                seed: args.seed,
            },
            plots,
        ),
        Experiment::FailProof { processes, faults, starts, any_losses } => {
            let losses = if *any_losses { Losses::Any } else { Losses::Useful };
            collectives::fail_proof(*processes, *faults, *starts, losses, plots)
        }
        Experiment::Allreduce { timeout } => collectives::allreduces(*timeout, plots),
        Experiment::Board { window, rounds } => nodes::board_ages(*window, *rounds, args.seed, plots),
        Experiment::Colonies { nodes, colony, whole, window } => {
            nodes::colonies(*nodes, *colony, *whole, *window, args.seed, plots)
        }
        Experiment::Overhead { peers, seconds, interval_ms, cores } => {
            interruption::watch()?;
            overhead::run(peers, *seconds, *interval_ms, *cores, args.seed, plots)
        }
        Experiment::Detection { nodes, deaths } => {
            nodes::detection(*nodes as usize, *deaths as usize, args.seed, plots)
        }
        Experiment::Shock { parts, mesh, steps, samples, against, alone, width, tolerance } => {
            let against = match against.as_slice() {
                [] if !*alone => Method::value_variants(),
                some => some,
            };
            interruption::watch()?;
            let mut good = true;
            for &parts in parts {
                let shock = Shock {
                    mesh: *mesh,
                    parts,
                    steps: *steps,
                    samples: *samples,
                    width: *width,
                    tolerance: *tolerance,
                    against: against.to_vec(),
                };
                good &= shock::run(&shock, plots)?;
            }
            Ok(good)
        }
        Experiment::Checkpoints { nodes, hours, sizes, levels, rank_mtbf, node_mtbf, writing, runs } => {
            let what = checkpoints::Checkpoints {
                nodes: *nodes,
                hours: *hours,
                sizes,
                levels,
                rank_mtbf_hours: *rank_mtbf,
                node_mtbf_hours: *node_mtbf,
                writing: *writing,
                runs: *runs,
                seed: args.seed,
            };
            checkpoints::checkpoints(&what, plots)
        }
        Experiment::Coordinator { mix, node_mtbf, bandwidths, days, runs } => coordinator::run(
            &coordinator::Jobs {
                mix: *mix,
                node_mtbf_years: *node_mtbf,
                bandwidths,
                days: *days,
                runs: *runs,
                seed: args.seed,
            },
            plots,
        ),
        Experiment::Stalls { nodes, hours, periods } => {
            nodes::stalled(*nodes as usize, *hours, *periods, args.seed, plots)
        }
    }
}
