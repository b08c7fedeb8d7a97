//! The program that acts on advice.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// What came of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It ended with status 0.
    Succeeded,
    /// It ended otherwise.
    Failed {
        /// How.
        status: String,
    },
    /// It took too long; it and all that it started were killed.
    TimedOut,
    /// There was no way to run it.
    NotRun {
        /// Why.
        error: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("the hook succeeded"),
            Self::Failed { status } => write!(f, "the hook failed: {status}"),
            Self::TimedOut => f.write_str("the hook took too long and was killed"),
            Self::NotRun { error } => write!(f, "the hook could not be run: {error}"),
        }
    }
}

/// A hook in a process group of its own. Nothing of the group is left when it is dropped before the hook
/// ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it has ended, and its number may be another's by now.
        if let Some(leader) = self.0.id() {
            let _ = killpg(Pid::from_raw(leader as i32), Signal::SIGKILL);
        }
    }
}

/// Runs `program` with `input` on its standard input, for at most `limit`.
pub async fn run(program: &Path, input: &str, limit: Duration) -> Outcome {
    let work = async {
        let child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut group = Group(child);
        if let Some(mut stdin) = group.0.stdin.take() {
            // A hook that does not read is its own business.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        group.0.wait().await
    };
    match tokio::time::timeout(limit, work).await {
        Err(_) => Outcome::TimedOut,
        Ok(Err(error)) => Outcome::NotRun { error: error.to_string() },
        Ok(Ok(status)) if status.success() => Outcome::Succeeded,
        Ok(Ok(status)) => Outcome::Failed { status: status.to_string() },
    }
}
