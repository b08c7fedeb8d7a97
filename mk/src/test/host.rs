//! The crates' own tests, by `cargo test`: those of the node manager, and all others.

use super::tally::Tally;
use crate::build::Builder;
use crate::child::Running;
use crate::tail;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Which of the workspace's default members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Crates {
    /// Those below gossip-mgr/.
    NodeManager,
    /// All others.
    Others,
}

impl Crates {
    /// What stands before the names of their tests.
    fn title(self) -> &'static str {
        match self {
            Self::NodeManager => "gossip",
            Self::Others => "host",
        }
    }

    /// `-p NAME` for each.
    fn arguments(self, tree: &Tree) -> Result<Vec<String>> {
        let mut command = Command::new("cargo");
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(tree.root());
        let output = command.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let workspace: Workspace =
            serde_json::from_slice(&output.stdout).context("cargo metadata is not understood")?;
        let gossip = tree.root().join("gossip-mgr");
        let chosen = workspace.packages.into_iter().filter(|package| {
            let node_manager = package.manifest_path.starts_with(&gossip);
            workspace.workspace_default_members.contains(&package.id) && node_manager == (self == Self::NodeManager)
        });
        Ok(chosen.flat_map(|package| ["-p".to_owned(), package.name]).collect())
    }
}

/// The part of `cargo metadata` that is of use here.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    workspace_default_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
}

/// Runs their tests whose name contains `filter`.
pub fn run(builder: &Builder, crates: Crates, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let tree = builder.tree();
    let target = builder.cache().work_for(tree.root(), "host-tests")?;
    let (packages, title) = (crates.arguments(tree)?, crates.title());
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--no-fail-fast", "--no-run"])
        .args(&packages)
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", &target);
    let built = Running::start(&mut command, "the build of the tests")?.wait()?;
    if !built.success() {
        tally.fail(&format!("{title}: build"), "cargo could not build the tests; its messages are above");
        return Ok(());
    }

    let mut command = Command::new("cargo");
    command
        .args(["test", "--no-fail-fast"])
        .args(&packages)
        .args(filter)
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", &target);
    harness(&mut command, title, tally)
}

/// Runs a command that prints what Rust's test harness prints.
pub fn harness(command: &mut Command, title: &'static str, tally: &mut Tally) -> Result<()> {
    let errors = tempfile::NamedTempFile::new().context("no file for the tests' messages")?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.reopen()?);
    let mut running = Running::start(command, "the tests on the host")?;
    let output = running.pipes().stdout.take().context("the tests' output is a pipe")?;
    let mut parser = Libtest::new(title);
    for line in BufReader::new(output).lines() {
        parser.line(&line.context("cannot read the tests' output")?, tally);
    }
    let status = running.wait()?;
    if !status.success() && parser.failures == 0 {
        let messages = fs::read(errors.path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
        let reason = format!("ended with {status} though no test reported a failure:\n{}", tail::lines(&messages, 40));
        tally.fail(&format!("{title}: cargo test"), &reason);
    }
    Ok(())
}

/// Reads the standard output of Rust's test harness. Failures are told with their output, which comes after the results.
struct Libtest {
    title: &'static str,
    failures: u32,
    section: Option<(String, String)>,
}

impl Libtest {
    fn new(title: &'static str) -> Self {
        Self { title, failures: 0, section: None }
    }

    fn line(&mut self, line: &str, tally: &mut Tally) {
        if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            let name = name.trim_end();
            match verdict.split(',').next() {
                Some("ok") => tally.pass(&format!("{}: {name}", self.title)),
                Some("FAILED") => self.failures += 1,
                Some("ignored") => self.leave_out(name, verdict, tally),
                _ => {}
            }
            return;
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.split(" stdout").next()) {
            self.tell(tally);
            self.section = Some((name.trim_end_matches(" ----").to_owned(), String::new()));
        } else if line == "failures:" || line.starts_with("test result:") {
            self.tell(tally);
        } else if let Some((_, text)) = &mut self.section {
            text.push_str(line);
            text.push('\n');
        }
    }

    /// The reason is in brackets before the name (libtest-mimic) or behind the verdict (the compiler's harness).
    fn leave_out(&self, name: &str, verdict: &str, tally: &mut Tally) {
        let (reason, name) = match name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some(bracketed) => bracketed,
            None => (verdict.strip_prefix("ignored, ").unwrap_or("ignored"), name),
        };
        tally.leave_out(&format!("{}: {}", self.title, name.trim_start()), reason);
    }

    fn tell(&mut self, tally: &mut Tally) {
        if let Some((name, text)) = self.section.take() {
            tally.fail(&format!("{}: {name}", self.title), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_here_is_omitted_and_has_not_passed() {
        let mut tally = Tally::default();
        let mut parser = Libtest::new("gossip");
        parser.line("test [needs root and iproute2] a_node ... ignored", &mut tally);
        parser.line("test too_slow ... ignored, takes an hour", &mut tally);
        assert_eq!((tally.passed(), tally.left_out(), tally.failed().len()), (0, 2, 0));
    }

    #[test]
    fn a_failed_test_is_counted_once_and_with_its_output() {
        let output = "\
running 2 tests
test a::good ... ok
test a::bad ... FAILED

failures:

---- a::bad stdout ----

thread 'a::bad' panicked at src/lib.rs:1:1:
left is not right

failures:
    a::bad

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let mut tally = Tally::default();
        let mut parser = Libtest::new("host");
        for line in output.lines() {
            parser.line(line, &mut tally);
        }
        assert_eq!(parser.failures, 1);
        assert_eq!(tally.passed(), 1);
        assert_eq!(tally.failed(), ["host: a::bad"]);
    }
}
