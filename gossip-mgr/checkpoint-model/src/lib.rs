//! Which levels of checkpoints a job needs and how often, and when jobs that share storage may write.
//!
//! 1. Nothing here reads a clock, a file or a socket. Times are seconds and come in as arguments.
//! 2. The expected lifetime of a job is exact for what is modelled: failures of several classes that come at
//!    random, nested checkpoints, failures during checkpoints and restarts. It has a closed form, see
//!    [`lifetime`]; nothing is fitted.
//! 3. Rates start as what the configuration says and costs as a guess; both are replaced by what is measured.
#![forbid(unsafe_code)]

pub mod adviser;
pub mod choice;
pub mod coordinator;
pub mod failures;
pub mod level;
pub mod lifetime;
pub mod published;
pub mod slots;

pub use adviser::{Adviser, FailureKind};
pub use choice::{Plan, choose};
pub use failures::{FailureGroup, Failures, Job};
pub use level::{Cost, LevelKind};

/// What is wrong with the description of a job, its machine or its levels.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A number outside of its range.
    #[error("{what} is {value}; it must be {must}")]
    Number {
        /// Of what.
        what: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        must: &'static str,
    },
    /// A redundancy group that makes no sense for this job.
    #[error("{level} needs {needed} nodes, and the job has {nodes}: leave this level out or make its groups smaller")]
    TooFewNodes {
        /// The level.
        level: LevelKind,
        /// How many nodes its groups have.
        needed: u32,
        /// How many there are.
        nodes: u32,
    },
    /// No level at all.
    #[error("no checkpoint level is offered: name at least one, as local or parallel-fs")]
    NoLevel,
    /// A level twice.
    #[error("{0} is offered twice: name each level once")]
    Twice(LevelKind),
}

fn positive(what: &'static str, value: f64) -> Result<(), ModelError> {
    if value > 0.0 { Ok(()) } else { Err(ModelError::Number { what, value, must: "above 0" }) }
}

fn at_least_zero(what: &'static str, value: f64) -> Result<(), ModelError> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(ModelError::Number { what, value, must: "a number of at least 0" })
    }
}
