//! opcost: what a system call and a page fault cost.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fwq::error::{Error, Result};
use fwq::host::{Placement, pin};
use fwq::marker::{window_begin, window_end};
use fwq::ops::{EMPTY, FAULT, GETPPID, OpRecording, Timed, name};
use fwq::quantum::ticks;
use fwq::stats::Summary;

const PAGE: usize = 4096;

/// Measure single operations: getppid and the first write to a 4 KiB page of anonymous memory
///
/// Each sample stands in a window of the noise meter, so that the emulator counts its instructions on all cores. Exit
/// status: 0 done, 2 bad arguments or output that cannot be written, 1 any other error.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Samples of each operation
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Run on this CPU [default: leave placement alone]
    #[arg(long)]
    cpu: Option<u16>,
    /// Write the figures to this JSON file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Time `op` once for each element of `ticks_of`, each time in window `ID`.
fn sample<const ID: u8>(ticks_of: &mut [u64], mut op: impl FnMut(usize)) -> Result<Timed> {
    for (i, out) in ticks_of.iter_mut().enumerate() {
        window_begin::<ID>();
        let start = ticks();
        op(i);
        let end = ticks();
        window_end::<ID>();
        *out = end - start;
    }
    let ticks = Summary::of(ticks_of).ok_or_else(|| Error::Usage("no samples".into()))?;
    Ok(Timed { id: ID, ticks })
}

/// Anonymous memory that nobody has touched, in pages of 4 KiB.
struct Fresh {
    start: *mut u8,
    length: usize,
}

impl Fresh {
    fn new(pages: usize) -> Result<Self> {
        let length = pages * PAGE;
        // SAFETY: asks for new memory at an address of the kernel's choice; touches none of ours. madvise gets what mmap
        // gave; it may fail where there are no huge pages, which is as good.
        let start = unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                let error = std::io::Error::last_os_error();
                return Err(Error::Usage(format!("cannot map {length} bytes: {error}")));
            }
            libc::madvise(start, length, libc::MADV_NOHUGEPAGE);
            start.cast()
        };
        Ok(Fresh { start, length })
    }

    fn write(&mut self, page: usize) {
        assert!(page < self.length / PAGE);
        // SAFETY: inside of the mapping, by the assertion; nothing else refers to it.
        unsafe { self.start.add(page * PAGE).write_volatile(1) }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and ends with this value.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.json {
        std::fs::write(path, "").map_err(|e| Error::file(path, e))?;
    }
    if let Some(cpu) = args.cpu {
        pin(usize::from(cpu))?;
    }
    let clock = (Instant::now(), ticks());
    let mut times = vec![u64::MAX; args.samples as usize];
    let mut fresh = Fresh::new(times.len())?;
    let getppid = |_| {
        // SAFETY: a call without arguments.
        unsafe { libc::getppid() };
    };
    // Once unmeasured, so that text and stack are mapped.
    (0..100).for_each(getppid);
    let ops = vec![
        sample::<EMPTY>(&mut times, |_| ())?,
        sample::<GETPPID>(&mut times, getppid)?,
        sample::<FAULT>(&mut times, |page| fresh.write(page))?,
    ];
    while clock.0.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    let tsc_hz = (ticks() - clock.1) as f64 / clock.0.elapsed().as_secs_f64();
    for op in &ops {
        println!(
            "{}: min {:.0} median {:.0} ns",
            name(op.id),
            op.ticks.min as f64 * 1e9 / tsc_hz,
            op.ticks.median as f64 * 1e9 / tsc_hz
        );
    }
    let recording = OpRecording::new(times.len(), tsc_hz, Placement::of_this_thread(), ops);
    args.json.as_deref().map_or(Ok(()), |path| recording.write(path))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opcost: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
