//! fwq: the fixed work quantum on threads.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use fwq::cli::{Mode, WorkArgs};
use fwq::engine::{Plan, SpinBarrier, calibrate, measure};
use fwq::error::Result;
use fwq::host::{Machine, Placement, pin};
use fwq::record::{Common, Part, Recording};

/// Run the same work many times on each thread and record how long each quantum takes
///
/// Writes OUT/fwq_<thread>_times.dat, one tick count a line. Exit status: 0 done, 2 bad arguments or output that cannot
/// be written, 1 any other error.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Threads; each should have a CPU of its own
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=255))]
    threads: u8,
    /// start: one barrier at the start; step: a barrier after each quantum
    #[arg(long, value_enum, default_value_t = Mode::Start)]
    mode: Mode,
    #[command(flatten)]
    work: WorkArgs,
}

fn run(args: &Args) -> Result<()> {
    let work = &args.work;
    work.check_outputs()?;
    let threads = usize::from(args.threads);
    work.cpu_of(threads - 1)?;
    let iterations = work.fixed_iterations().unwrap_or_else(|| calibrate(work.duration()));
    let barrier = SpinBarrier::new(threads);
    // Pinning comes first and for all: a thread that gave up alone would leave the others at the barrier.
    let pinned = SpinBarrier::new(threads);
    let failed = AtomicBool::new(false);
    let parts: Vec<Result<Option<Part>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|rank| {
                let (barrier, pinned, failed) = (&barrier, &pinned, &failed);
                scope.spawn(move || {
                    let placed = work.cpu_of(usize::from(rank)).and_then(|cpu| cpu.map_or(Ok(()), pin));
                    failed.fetch_or(placed.is_err(), Ordering::SeqCst);
                    pinned.wait();
                    placed?;
                    if failed.load(Ordering::SeqCst) {
                        return Ok(None); // another thread has the error
                    }
                    let plan = Plan {
                        rank,
                        run: work.run_id,
                        mode: args.mode,
                        samples: work.samples as usize,
                        warmup: work.warmup,
                        iterations,
                    };
                    let measured = measure(&plan, || barrier.wait());
                    Ok(Some(Part::new(measured, Placement::of_this_thread())))
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let parts: Result<Vec<Part>> = parts.into_iter().filter_map(Result::transpose).collect();
    let recording = Recording::assemble(
        Common {
            program: "fwq",
            mode: args.mode,
            iterations: iterations.get(),
            warmup: work.warmup,
            run_id: work.run_id,
            mpi: None,
            machine: Machine::this(),
            tsc_hz: None,
            detour_us: work.detour_us,
        },
        parts?,
    )?;
    recording.write(work)?;
    print!("{}", recording.summary_text());
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fwq: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
