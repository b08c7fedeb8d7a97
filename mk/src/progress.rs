//! Long steps tell how far they are and how long it will take: a bar on a terminal, plain lines elsewhere.
//!
//! How much a step has to do is known from the last time it was done on this machine (kept in the cache); the first time a
//! guess that the caller gives stands in.

use crate::cache::Cache;
use crate::child::Running;
use crate::tail;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often a step that is not on a terminal writes a line.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

/// What a step took the last time.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Past {
    seconds: f64,
    lines: u64,
}

/// A step in progress.
pub struct Step {
    name: String,
    started: Instant,
    expected: Past,
    bar: Option<ProgressBar>,
    told: Instant,
    history: PathBuf,
    log: PathBuf,
}

impl Step {
    /// Begins a step that is guessed to take `guess` seconds where it never was done before.
    pub fn begin(cache: &Cache, name: &str, guess: u32) -> Result<Self> {
        let history = cache.root_file("durations.json");
        let expected = read_history(&history).get(name).copied().unwrap_or(Past { seconds: guess.into(), lines: 0 });
        let file_name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let log = cache.work("logs")?.join(format!("{file_name}.log"));
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix:32} {bar:30} {msg}")
                    .expect("the template is well formed"),
            );
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let step =
            Self { name: name.to_owned(), started: Instant::now(), expected, bar, told: Instant::now(), history, log };
        match &step.bar {
            Some(bar) => bar.set_message(format!("about {}", duration(step.expected.seconds))),
            None => eprintln!("mk: {name}: about {}", duration(step.expected.seconds)),
        }
        Ok(step)
    }

    /// Tells how far the step is: `fraction` in 0..=1 where the caller knows, else time against the last time.
    pub fn tell(&mut self, fraction: Option<f64>, what: &str) {
        let (fraction, left) = outlook(fraction, self.started.elapsed().as_secs_f64(), self.expected.seconds);
        let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
        match &self.bar {
            Some(bar) => {
                bar.set_position((fraction * 1000.0) as u64);
                bar.set_message(format!("{:3.0} %, {left}{what}", fraction * 100.0));
            }
            None if self.told.elapsed() >= PLAIN_INTERVAL => {
                self.told = Instant::now();
                eprintln!("mk: {}: {:.0} %, {left}{what}", self.name, fraction * 100.0);
            }
            None => {}
        }
    }

    /// Runs a program with its output in the step's log; the log's lines measure the progress. A failure shows the log's end.
    pub fn run(&mut self, command: &mut Command, what: &str) -> Result<()> {
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        if self.lines() == 0 || self.started.elapsed() < Duration::from_secs(1) {
            log.set_len(0)?;
        }
        writeln!(log, "$ {command:?}")?;
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let running = Running::start(command, what)?;
        let mut reader = File::open(&self.log)?;
        let mut lines = 0;
        let far_off = Instant::now() + Duration::from_secs(4 * 3600);
        let status = running.wait_until(far_off, || {
            lines += new_lines(&mut reader);
            let fraction = (self.expected.lines > 0).then(|| lines as f64 / self.expected.lines as f64);
            self.tell(fraction, "");
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{what} failed ({status}); the end of {}:\n{}", self.log.display(), self.tail()),
            None => bail!("{what} took more than four hours and was ended; see {}", self.log.display()),
        }
    }

    /// Ends a step that succeeded, and remembers what it took.
    pub fn done(self) {
        let seconds = self.started.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("mk: {}: done in {}", self.name, duration(seconds));
        let mut history = read_history(&self.history);
        history.insert(self.name.clone(), Past { seconds, lines: self.lines() });
        // Only a convenience: the next estimate is worse without it.
        if let Ok(text) = serde_json::to_string_pretty(&history) {
            let new = self.history.with_extension("new");
            let _ = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.history));
        }
    }

    fn lines(&self) -> u64 {
        File::open(&self.log).map(|mut log| new_lines(&mut log)).unwrap_or(0)
    }

    fn tail(&self) -> String {
        tail::lines(&tail::of_file(&self.log, 8000).unwrap_or_default(), 25)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_lines(reader: &mut File) -> u64 {
    let mut buffer = [0; 1 << 16];
    let mut lines = 0;
    while let Ok(count) = reader.read(&mut buffer) {
        if count == 0 {
            break;
        }
        lines += buffer[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    lines
}

fn read_history(path: &std::path::Path) -> BTreeMap<String, Past> {
    fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// How far a step is, and what is said of the time that is left; `elapsed` and `expected` in seconds.
fn outlook(fraction: Option<f64>, elapsed: f64, expected: f64) -> (f64, String) {
    let shown = fraction.unwrap_or(elapsed / expected.max(1.0)).clamp(0.0, 0.99);
    let left = match fraction {
        // Early on the past says more than the fraction, as long as it is not refuted.
        Some(known) if (0.05..1.0).contains(&known) || (known > 0.0 && known < 1.0 && elapsed >= expected) => {
            elapsed / known - elapsed
        }
        Some(known) if known >= 1.0 => 0.0,
        _ => expected - elapsed,
    };
    let words =
        if left > 0.0 { format!("about {} left", duration(left.max(1.0))) } else { "longer than the last time".into() };
    (shown, words)
}

/// A duration in words, for people: `5 s`, `3 min 20 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => format!("{} min {} s", seconds / 60, seconds % 60),
        600..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, outlook};

    #[test]
    fn the_time_left_is_what_is_known_best() {
        let says = |fraction, elapsed, expected, words: &str| assert_eq!(outlook(fraction, elapsed, expected).1, words);
        says(None, 10.0, 40.0, "about 30 s left");
        says(None, 50.0, 40.0, "longer than the last time");
        says(Some(0.01), 1.0, 40.0, "about 39 s left");
        says(Some(0.01), 50.0, 40.0, "about 1 h 22 min left");
        says(Some(0.5), 50.0, 40.0, "about 50 s left");
        says(Some(1.2), 50.0, 40.0, "longer than the last time");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(duration(4.6), "5 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3900.0), "1 h 5 min");
    }
}
