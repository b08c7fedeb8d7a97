//! The audit log: a file with a line of JSON for each decision and for what came of it.
//!
//! A thread of its own writes it, as a disk may be full or slow, and a file of which nobody reads may block
//! for ever. What it cannot take in time is lost and counted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tracing::{info, warn};

/// Lines that may wait to be written.
const WAITING: usize = 64;
/// How long the end of the daemon waits for them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log.
pub struct AuditLog {
    /// None once it is being closed.
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    failures: Counter,
}

impl AuditLog {
    /// A log that appends to `path`, which is opened anew for each line, so that it can be rotated.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn open(path: PathBuf, failures: Counter) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let counter = failures.clone();
        let writer =
            std::thread::Builder::new().name("audit log".into()).spawn(move || write(&path, &waiting, &counter))?;
        Ok(Self { lines: Some(lines), writer: Some(writer), failures })
    }

    /// Appends a line some time soon.
    pub fn append(&self, line: String) {
        let taken = self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if !taken {
            self.failures.inc();
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lines = None;
        let until = Instant::now() + LAST_LINES;
        while self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write(path: &Path, lines: &Receiver<String>, failures: &Counter) {
    let mut failing = false;
    for line in lines {
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        match &written {
            Err(error) if !failing => warn!(path = %path.display(), %error, "the audit log cannot be written"),
            Ok(()) if failing => info!(path = %path.display(), "the audit log can be written again"),
            _ => {}
        }
        failing = written.is_err();
        failures.inc_by(failing.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_written_in_order_before_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let failures = Counter::default();
        let log = AuditLog::open(path.clone(), failures.clone()).unwrap();
        ["one", "two", "three"].into_iter().for_each(|line| log.append(line.into()));
        drop(log);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(failures.get(), 0);
    }

    #[test]
    fn lines_for_a_full_disk_are_counted() {
        let failures = Counter::default();
        let log = AuditLog::open("/dev/full".into(), failures.clone()).unwrap();
        ["one", "two"].into_iter().for_each(|line| log.append(line.into()));
        drop(log);
        assert_eq!(failures.get(), 2);
    }

    #[test]
    fn a_file_that_blocks_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failures = Counter::default();
        let log = AuditLog::open(fifo, failures.clone()).unwrap();
        // The writer holds one, and so many wait.
        for _ in 0..WAITING + 3 {
            log.append("line".into());
        }
        assert!(failures.get() >= 2, "{}", failures.get());
    }
}
