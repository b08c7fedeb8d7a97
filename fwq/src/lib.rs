//! FWQ, the fixed work quantum: run the same work many times, look at what delays it.
//!
//! Principles of this crate:
//!
//! * The quantum is a fixed number of instructions ([`quantum::own_instructions`]), one assembly source for the programs
//!   and the bare-metal floor. Markers stand exactly around it, so an emulator can count what else the core executed.
//! * Between the first and the last quantum the measuring thread makes no system call and touches no new page.
//! * Instructions counted by the meter are the primary figure. Time is secondary: on an emulator the host disturbs it.
//! * Numbers without their circumstances are worthless: each recording carries machine, placement and parameters.
//! * `report.html` is a function of `report.json` alone.
//!
//! The way of the data: [`engine`] runs quanta and yields a [`record::Recording`]; [`meter`] reads the plugin's counts;
//! [`report::Run::merge`] joins the two by run and rank; [`report::Report`] prints, writes and judges.

pub mod bare;
pub mod cli;
pub mod engine;
pub mod error;
pub mod host;
pub mod marker;
pub mod meter;
pub mod ops;
pub mod quantum;
pub mod record;
pub mod report;
pub mod stats;

pub use error::Error;
