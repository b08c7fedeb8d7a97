//! opcost: what single operations of the operating system cost.

mod calls;
mod memory;
mod peers;
mod processes;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fwq::error::{Error, Result};
use fwq::host::{Placement, pin};
use fwq::marker::{window_begin, window_end};
use fwq::ops::{EMPTY, OpRecording, Timed};
use fwq::quantum::ticks;
use fwq::stats::Summary;

/// Measure single operations: system calls, faults, processes, threads, messages
///
/// Each sample stands in a window of the noise meter, so that the emulator counts its instructions on all cores. Slow
/// operations get fewer samples: a tenth, or a hundredth for what starts a process. Exit status: 0 done, 2 bad arguments or
/// output that cannot be written, 1 any other error.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Samples of each operation
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Run on this CPU [default: leave placement alone]
    #[arg(long)]
    cpu: Option<u16>,
    /// Only operations whose name contains this; can be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write the figures to this JSON file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Which samples an operation gets: all that were asked for, or fewer.
#[derive(Clone, Copy)]
enum Share {
    All,
    Tenth,
    Hundredth,
}

/// Measures operations, and keeps what it found.
struct Bench {
    samples: usize,
    only: Vec<String>,
    ops: Vec<Timed>,
}

impl Bench {
    fn samples(&self, share: Share) -> usize {
        let divisor = match share {
            Share::All => 1,
            Share::Tenth => 10,
            Share::Hundredth => 100,
        };
        (self.samples / divisor).max(self.samples.min(5))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Measures `op` in windows with number `ID`; it gets the number of the sample. The first sample is done once
    /// before, unmeasured, so that text and data of the operation are there.
    ///
    /// # Errors
    /// [`Error::Operation`] with the operation's name if it fails.
    fn measure<const ID: u8>(
        &mut self,
        name: &str,
        share: Share,
        mut op: impl FnMut(usize) -> io::Result<()>,
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        assert!(self.ops.iter().all(|other| other.id != ID), "two operations have window {ID}");
        let failed = |reason| Error::Operation { name: name.into(), reason };
        op(0).map_err(failed)?;
        let mut times = vec![0; self.samples(share)];
        for (i, time) in times.iter_mut().enumerate() {
            window_begin::<ID>();
            let start = ticks();
            let done = op(i + 1);
            let end = ticks();
            window_end::<ID>();
            done.map_err(failed)?;
            *time = end - start;
        }
        let ticks = Summary::of(&times).expect("there is at least one sample");
        self.ops.push(Timed { id: ID, name: name.into(), ticks });
        Ok(())
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(path) = &args.json {
        std::fs::write(path, "").map_err(|e| Error::file(path, e))?;
    }
    if let Some(cpu) = args.cpu {
        pin(usize::from(cpu))?;
    }
    let clock = (Instant::now(), ticks());
    let mut bench = Bench { samples: args.samples as usize, only: Vec::new(), ops: Vec::new() };
    bench.measure::<EMPTY>("empty", Share::All, |_| Ok(()))?;
    bench.only = args.only;
    calls::measure(&mut bench)?;
    memory::measure(&mut bench)?;
    peers::measure(&mut bench)?;
    processes::measure(&mut bench)?;
    if bench.ops.len() == 1 {
        return Err(Error::Usage(format!("no operation's name contains '{}'", bench.only.join("' or '"))));
    }
    while clock.0.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    let tsc_hz = (ticks() - clock.1) as f64 / clock.0.elapsed().as_secs_f64();
    let nanoseconds = |ticks: u64| ticks as f64 * 1e9 / tsc_hz;
    println!("{:<34} {:>8} {:>12} {:>12}", "operation", "samples", "min ns", "median ns");
    for Timed { name, ticks, .. } in &bench.ops {
        let (min, median) = (nanoseconds(ticks.min), nanoseconds(ticks.median));
        println!("{name:<34} {:>8} {min:>12.0} {median:>12.0}", ticks.samples);
    }
    let recording = OpRecording::new(tsc_hz, Placement::of_this_thread(), bench.ops);
    args.json.as_deref().map_or(Ok(()), |path| recording.write(path))
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opcost: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
