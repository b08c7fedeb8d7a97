//! Standard output of experiments. What cannot be written ends an experiment as an error does, so that all it has
//! started is ended too.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// A line could not be written to standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] std::io::Error);

impl OutputError {
    /// Whether whoever read has enough: `| head`.
    pub fn nobody_reads(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes a line; see `say!`.
///
/// # Errors
/// If that fails.
pub fn say(line: Arguments) -> Result<(), OutputError> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Like `println!`, but gives an error where that panics.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::output::say(format_args!($($line)*))
    };
}
