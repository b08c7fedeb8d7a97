//! What can go wrong, and the exit status that goes with it.

use std::path::{Path, PathBuf};

/// An error of the programs, the readers or the report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be carried out as given. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// A file or folder cannot be read or written. Exit status 2 where it was named on the command line.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: std::io::Error },
    /// A file's content is not what it should be.
    #[error("{}, line {line}: {what}", path.display())]
    Format { path: PathBuf, line: usize, what: String },
    /// Files that are sound each for itself contradict one another.
    #[error("{0}")]
    Mismatch(String),
    /// The system refused an operation that was to be measured.
    #[error("{name}: {reason}")]
    Operation { name: String, reason: std::io::Error },
    /// The drawing library failed.
    #[error("cannot draw the plots: {0}")]
    Plot(String),
}

impl Error {
    pub fn file(path: &Path, source: std::io::Error) -> Self {
        Error::File { path: path.to_owned(), reason: source }
    }

    pub fn format(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Error::Format { path: path.to_owned(), line, what: what.into() }
    }

    /// 2 for what the user can put right on the command line, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::File { .. } => 2,
            _ => 1,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
