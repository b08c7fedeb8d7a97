//! A job: a system is booted from the image, runs a script without anybody watching, and hands its results out.
//!
//! The script and its files travel in as a tar on the second disk, the results out as a tar on the third.

use crate::child::{Running, interrupted};
use crate::qemu::{self, Machine, System};
use anyhow::{Context, Result, bail};
use fs_err::{self as fs, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Most that a job may hand out, bytes.
const RESULTS_MAX: u64 = 512 << 20;

/// A job that prints this line tells how long the boot took.
pub const BEGIN: &str = "tacet-job: begin";

/// A file for the guest: its name, from the job's folder on, and its content.
pub type JobFile = (String, Vec<u8>);

/// What a job needs.
pub struct Job<'a> {
    pub machine: &'a Machine,
    pub system: System<'a>,
    pub image: &'a Path,
    /// Whether changes of the image stay after the job.
    pub keep_image: bool,
    /// `job.sh` and what it uses: names and contents; all are executable.
    pub files: &'a [JobFile],
    /// Words added to the kernel's command line.
    pub words: &'a str,
    /// The noise meter, and where it writes what.
    pub meter: Option<(&'a Path, &'a [(&'a str, &'a Path)])>,
    pub timeout: Duration,
}

/// What came out.
pub struct Outcome {
    folder: TempDir,
    /// QEMU's exit status, `None` after a signal.
    pub exit: Option<i32>,
    /// What the console showed.
    pub console: String,
    /// What the first serial port showed: the microkernel's log.
    pub log: String,
    /// The script's exit status, if it ended.
    pub status: Option<i32>,
    /// Time from QEMU's start to the line [`BEGIN`] on the console.
    pub boot: Option<Duration>,
}

impl Outcome {
    /// The folder with the results.
    pub fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    /// An error unless the script ended with status 0.
    pub fn expect_success(&self, what: &str) -> Result<()> {
        if self.status == Some(0) {
            return Ok(());
        }
        let reason = match self.status {
            Some(status) => format!("the job ended with status {status}"),
            None => format!("the job did not end; {}", qemu::describe_exit(self.exit)),
        };
        bail!("{what}: {reason}\nconsole:\n{}\nlog:\n{}", tail(&self.console), tail(&self.log))
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Runs a job; `each` is called with every line of the console, and about twice a second with none.
pub fn run(job: &Job, mut each: impl FnMut(Option<&str>)) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("tacet-job-").tempdir().context("cannot create a temporary folder")?;
    let input = folder.path().join("job.tar");
    let output = folder.path().join("results.tar");
    let serial = folder.path().join("log");
    pack(job.files, &input)?;
    File::create(&output)?.set_len(RESULTS_MAX)?;

    let mut command = job.machine.command(&serial);
    qemu::disk(&mut command, "d0", job.image, if job.keep_image { "" } else { ",snapshot=on" });
    qemu::disk(&mut command, "d1", &input, ",readonly=on");
    qemu::disk(&mut command, "d2", &output, "");
    qemu::console(&mut command);
    qemu::network(&mut command, None);
    job.system.boot(&mut command, &format!("tacet_job {}", job.words), folder.path())?;
    if let Some((plugin, files)) = job.meter {
        qemu::plugin(&mut command, plugin, files);
    }
    command.args(&job.machine.extra);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut running = Running::start(&mut command, "QEMU")?;
    let (sender, lines) = channel();
    let console = running.pipes().stdout.take().context("QEMU's output is a pipe")?;
    std::thread::spawn(move || {
        let mut reader = BufReader::new(console);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    let mut errors = running.pipes().stderr.take().context("QEMU's messages are a pipe")?;
    let messages = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut errors, &mut text);
        text
    });

    let deadline = started + job.timeout;
    let mut text = String::new();
    let mut status = None;
    let mut boot = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(500)) {
            Ok(line) => {
                if line == BEGIN {
                    boot = Some(started.elapsed());
                }
                if let Some(number) = line.strip_prefix("tacet-job: exit ") {
                    status = number.parse().ok();
                }
                each(Some(&line));
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => each(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if interrupted() {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            let log = fs::read_to_string(&serial).unwrap_or_default();
            bail!(
                "the job did not end within {} s; the machine was stopped\nconsole:\n{}\nlog:\n{}",
                job.timeout.as_secs(),
                tail(&text),
                tail(&log)
            );
        }
    }
    let Some(ended) = running.wait_until(Instant::now() + Duration::from_secs(20), || {})? else {
        bail!("QEMU closed its console but did not end");
    };
    let messages = messages.join().unwrap_or_default();
    if ended.code() == Some(1) && text.is_empty() && !messages.trim().is_empty() {
        bail!("QEMU could not start: {}", messages.trim());
    }
    let results = folder.path().join("results");
    fs::create_dir(&results)?;
    if status.is_some() {
        tar::Archive::new(File::open(&output)?).unpack(&results).context("cannot read the job's results")?;
    }
    let log = fs::read(&serial).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    Ok(Outcome { exit: ended.code(), console: text, log, status, boot, folder })
}

/// Writes the tar of a job.
fn pack(files: &[JobFile], path: &Path) -> Result<()> {
    let mut builder = tar::Builder::new(File::create(path)?);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    builder.into_inner()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_tar_of_whole_sectors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.tar");
        pack(&[("job.sh".into(), b"exit 0\n".to_vec()), ("d/odd".into(), vec![7; 1000])], &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len() % 512, 0);
        let out = folder.path().join("out");
        tar::Archive::new(File::open(&path).unwrap()).unpack(&out).unwrap();
        assert_eq!(fs::read(out.join("d/odd")).unwrap(), vec![7; 1000]);
    }
}
