//! `decouple status`.

use crate::error::Error;
use crate::tool::Host;
use crate::tool::report::{Before, Report, now_ns, status};
use clap::Parser;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Show every core: who is on it, since when, and what it asks of Linux.
///
/// SYSCALLS, FAULTS, TRAPS and STOPS count the exits to Linux of the present thread, or of the last one on an idle core;
/// µs/EXIT is the mean time from an exit to its answer. With --watch they are rates.
#[derive(Debug, Parser)]
#[command(name = "decouple status", bin_name = "decouple status")]
pub struct Arguments {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print again every SECONDS (1 if not given) until interrupted, with rates per second
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    watch: Option<f64>,
}

/// Clears the screen and goes to its beginning (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Runs the tool; with --watch until it is interrupted or nobody reads any more.
pub fn run(arguments: Arguments, host: &dyn Host) -> Result<u8, Error> {
    let period = arguments.watch.map(seconds).transpose()?;
    host.driver(None)?;
    let mut out = std::io::stdout();
    let read = || host.sysfs().machine().map(|machine| Report::new(&machine, now_ns()));
    let mut report = read()?;
    let mut moment = Instant::now();
    let mut text = print(&arguments, &report, None);
    loop {
        let clear = if period.is_some() && !arguments.json && out.is_terminal() { CLEAR } else { "" };
        // A closed pipe ends the watching, as with any filter.
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() {
            return Ok(0);
        }
        let Some(period) = period else { return Ok(0) };
        std::thread::sleep(period);
        let elapsed = moment.elapsed();
        moment = Instant::now();
        let now = read()?;
        text = print(&arguments, &now, Some(&Before { report: &report, elapsed }));
        report = now;
    }
}

fn seconds(seconds: f64) -> Result<Duration, Error> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(period) if (0.01..=86400.0).contains(&seconds) => Ok(period),
        _ => Err(Error::Usage(format!("--watch={seconds} is not between 0.01 and 86400 seconds"))),
    }
}

fn print(arguments: &Arguments, report: &Report, before: Option<&Before>) -> String {
    if arguments.json { report.json() + "\n" } else { status(report, before) }
}
