//! The crates' own tests, by `cargo test`.

use super::tally::Tally;
use crate::child::Running;
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Runs the tests of the workspace's default members whose name contains `filter`.
pub fn run(tree: &Tree, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--no-fail-fast", "--no-run"])
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", tree.cache().join("host-tests"));
    let built = Running::start(&mut command, "the build of the tests")?.wait()?;
    if !built.success() {
        tally.fail("host: build", "cargo could not build the tests; its messages are above");
        return Ok(());
    }

    let mut command = Command::new("cargo");
    command
        .args(["test", "--no-fail-fast"])
        .args(filter)
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", tree.cache().join("host-tests"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command, "the tests on the host")?;
    let output = running.pipes().stdout.take().context("the tests' output is a pipe")?;
    let mut parser = Libtest::default();
    for line in BufReader::new(output).lines() {
        parser.line(&line.context("cannot read the tests' output")?, tally);
    }
    let status = running.wait()?;
    if !status.success() && parser.failures == 0 {
        tally.fail("host: cargo test", &format!("ended with {status} though no test reported a failure"));
    }
    Ok(())
}

/// Reads the standard output of Rust's test harness. Failures are told with their output, which comes after the results.
#[derive(Default)]
struct Libtest {
    failures: u32,
    section: Option<(String, String)>,
}

impl Libtest {
    fn line(&mut self, line: &str, tally: &mut Tally) {
        if let Some(rest) = line.strip_prefix("test ") {
            if let Some((name, verdict)) = rest.rsplit_once(" ... ") {
                match verdict.split(',').next() {
                    Some("ok") => tally.pass(&format!("host: {name}")),
                    Some("FAILED") => self.failures += 1,
                    _ => {}
                }
                return;
            }
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

    fn tell(&mut self, tally: &mut Tally) {
        if let Some((name, text)) = self.section.take() {
            tally.fail(&format!("host: {name}"), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut parser = Libtest::default();
        for line in output.lines() {
            parser.line(line, &mut tally);
        }
        assert_eq!(parser.failures, 1);
        assert_eq!(tally.passed(), 1);
        assert_eq!(tally.failed(), ["host: a::bad"]);
    }
}
