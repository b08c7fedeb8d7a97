//! Counting what passed and what failed.

use std::process::ExitCode;

/// The outcome so far. Each recorded test prints its line at once.
#[derive(Default)]
pub struct Tally {
    passed: u32,
    failed: Vec<String>,
    left_out: u32,
}

impl Tally {
    /// A test that passed.
    pub fn pass(&mut self, name: &str) {
        self.passed += 1;
        println!("ok      {name}");
    }

    /// A test that failed, and why (may have several lines).
    pub fn fail(&mut self, name: &str, reason: &str) {
        self.failed.push(name.to_owned());
        println!("FAILED  {name}");
        for line in reason.trim_end().lines() {
            println!("        {line}");
        }
    }

    /// A test that cannot be run here, and why.
    pub fn leave_out(&mut self, name: &str, reason: &str) {
        self.left_out += 1;
        println!("omitted {name} ({reason})");
    }

    /// A test whose outcome is a result.
    pub fn record(&mut self, name: &str, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.pass(name),
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// How many were left out so far.
    #[cfg(test)]
    pub fn left_out(&self) -> u32 {
        self.left_out
    }

    /// How many passed so far.
    #[cfg(test)]
    pub fn passed(&self) -> u32 {
        self.passed
    }

    /// The names of those that failed so far.
    #[cfg(test)]
    pub fn failed(&self) -> &[String] {
        &self.failed
    }

    /// Prints the names of the failed tests and the count; the exit status follows from it. Nothing at all is a failure,
    /// because a filter that matches no test proves nothing.
    pub fn conclude(&self, filter: Option<&str>) -> ExitCode {
        println!();
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.passed == 0 && self.failed.is_empty() && self.left_out == 0 {
            match filter {
                Some(filter) => eprintln!("mk: no test has `{filter}` in its name"),
                None => eprintln!("mk: no test was found"),
            }
            return ExitCode::from(2);
        }
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}
