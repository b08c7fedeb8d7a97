//! mpi-fwq: the fixed work quantum on MPI ranks, in StepSync or StartSync.
//!
//! Every decision that could differ between ranks is taken by rank 0 and broadcast, so that the ranks end together and
//! one message is printed.

use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Parser;
use fwq::cli::{Mode, WorkArgs};
use fwq::engine::{Plan, calibrate, measure};
use fwq::error::{Error, Result};
use fwq::host::{Machine, Placement, Usage, pin};
use fwq::record::{Common, Part, Recording};
use mpi::collective::SystemOperation;
use mpi::traits::*;
use serde::{Deserialize, Serialize};

/// Run the same work many times on each MPI rank and record how long each quantum takes
///
/// Start it with mpirun. Writes OUT/mpi-fwq_<rank>_times.dat, one tick count a line. Exit status of each rank: 0 done,
/// 2 bad arguments or output that cannot be written, 1 any other error.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// step: a barrier after each quantum (StepSync); start: one barrier at the start (StartSync)
    #[arg(long, value_enum, default_value_t = Mode::Step)]
    mode: Mode,
    #[command(flatten)]
    work: WorkArgs,
}

/// What a rank tells rank 0 beside its samples.
#[derive(Serialize, Deserialize)]
struct Circumstances {
    placement: Placement,
    usage: Option<Usage>,
    clock: fwq::engine::Clock,
    begin: u64,
    end: u64,
}

/// Rank by the launcher's environment, before MPI is there to ask: only rank 0 speaks.
fn is_first_by_environment() -> bool {
    ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .is_none_or(|rank| rank == "0")
}

/// Agree on the outcome of a step that each rank took by itself: the first failing rank's error is told by rank 0.
fn agree<C: Communicator>(world: &C, outcome: Result<()>) -> Result<()> {
    let code = outcome.as_ref().err().map_or(0, |e| i32::from(e.exit_code()));
    let mut worst = 0;
    world.all_reduce_into(&code, &mut worst, SystemOperation::max());
    if worst == 0 {
        return Ok(());
    }
    let mine = if code == 0 { world.size() } else { world.rank() };
    let mut first = 0;
    world.all_reduce_into(&mine, &mut first, SystemOperation::min());
    let mut message = outcome.err().map(|e| e.to_string()).unwrap_or_default().into_bytes();
    let mut length = message.len() as u64;
    let root = world.process_at_rank(first);
    root.broadcast_into(&mut length);
    message.resize(length as usize, 0);
    root.broadcast_into(&mut message[..]);
    let message = String::from_utf8_lossy(&message).into_owned();
    Err(if worst == 2 {
        Error::Usage(format!("rank {first}: {message}"))
    } else {
        Error::Mismatch(format!("rank {first}: {message}"))
    })
}

/// Bring all parts to rank 0; the others get none.
fn gather<C: Communicator>(world: &C, part: Part) -> Result<Option<Vec<Part>>> {
    let root = world.process_at_rank(0);
    let bad = |e: serde_json::Error| Error::Mismatch(format!("a rank sent what cannot be read: {e}"));
    if world.rank() != 0 {
        let circumstances = Circumstances {
            placement: part.placement,
            usage: part.usage,
            clock: part.clock,
            begin: part.begin,
            end: part.end,
        };
        root.send(&serde_json::to_vec(&circumstances).map_err(bad)?[..]);
        root.send(&part.starts[..]);
        root.send(&part.ticks[..]);
        return Ok(None);
    }
    let mut parts = vec![part];
    for rank in 1..world.size() {
        let process = world.process_at_rank(rank);
        let (text, _) = process.receive_vec::<u8>();
        let c: Circumstances = serde_json::from_slice(&text).map_err(bad)?;
        parts.push(Part {
            placement: c.placement,
            usage: c.usage,
            clock: c.clock,
            begin: c.begin,
            end: c.end,
            starts: process.receive_vec::<u64>().0,
            ticks: process.receive_vec::<u64>().0,
        });
    }
    Ok(Some(parts))
}

fn run<C: Communicator>(args: &Args, world: &C) -> Result<()> {
    let work = &args.work;
    let rank = world.rank();
    let prepare = || {
        let id = u8::try_from(rank)
            .map_err(|_| Error::Usage(format!("{} ranks; the meter tells 256 apart", world.size())))?;
        if rank == 0 {
            work.check_outputs()?;
        }
        if let Some(cpu) = work.cpu_of(rank as usize)? {
            pin(cpu)?;
        }
        Ok(id)
    };
    let id = prepare();
    agree(
        world,
        id.as_ref().map(|_| ()).map_err(|e| match e {
            Error::Usage(text) => Error::Usage(text.clone()),
            other => Error::Usage(other.to_string()),
        }),
    )?;
    let id = id?;

    let mut iterations = work.fixed_iterations().map_or(0, NonZeroU64::get);
    if iterations == 0 {
        if rank == 0 {
            iterations = calibrate(work.duration()).get();
        }
        world.process_at_rank(0).broadcast_into(&mut iterations);
    }
    let plan = Plan {
        rank: id,
        run: work.run_id,
        mode: args.mode,
        samples: work.samples as usize,
        warmup: work.warmup,
        iterations: NonZeroU64::new(iterations).unwrap_or(NonZeroU64::MIN),
    };
    let measured = measure(&plan, || world.barrier());
    let part = Part::new(measured, Placement::of_this_thread());
    let outcome = gather(world, part).and_then(|parts| {
        let Some(parts) = parts else { return Ok(()) };
        let recording = Recording::assemble(
            Common {
                program: "mpi-fwq",
                mode: args.mode,
                iterations,
                warmup: work.warmup,
                run_id: work.run_id,
                mpi: mpi::environment::library_version().ok(),
                machine: Machine::this(),
                tsc_hz: None,
                detour_us: work.detour_us,
            },
            parts,
        )?;
        recording.write(work)?;
        print!("{}", recording.summary_text());
        Ok(())
    });
    agree(world, outcome)
}

fn main() -> ExitCode {
    let first = is_first_by_environment();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if first {
                // A closed terminal is no reason for another status.
                let _ = error.print();
            }
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let Some(universe) = mpi::initialize() else {
        eprintln!("mpi-fwq: MPI is initialised already");
        return ExitCode::FAILURE;
    };
    let world = universe.world();
    match run(&args, &world) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if world.rank() == 0 {
                eprintln!("mpi-fwq: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
