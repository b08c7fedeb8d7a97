//! Where a long run is and how long it may still take, on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A run of steps.
pub struct Progress {
    begin: Instant,
    told: Option<Instant>,
    parts: u32,
    last: u32,
    terminal: bool,
}

impl Progress {
    /// Begins now; `last` is the number of the last step.
    pub fn new(parts: u32, last: u32) -> Self {
        Self { begin: Instant::now(), told: None, parts, last, terminal: std::io::stderr().is_terminal() }
    }

    /// `step` is now with the method `what`. A terminal has a line that changes; a file gets a line
    /// every half minute.
    pub fn tell(&mut self, step: u32, what: &str) {
        let pause = Duration::from_millis(if self.terminal { 200 } else { 30_000 });
        let told = self.told.unwrap_or(self.begin);
        if told.elapsed() < pause {
            return;
        }
        self.told = Some(Instant::now());
        let left = self.begin.elapsed().as_secs_f64() / f64::from(step) * f64::from(self.last.saturating_sub(step));
        let line = format!("{} parts, step {step} of {}, {what}, about {left:.0} s left", self.parts, self.last);
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            // Nothing is lost if a terminal shows it late.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

/// Leaves the terminal's line empty.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
