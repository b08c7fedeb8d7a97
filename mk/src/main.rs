//! `mk`: builds, boots, measures and tests Tacet.
//!
//! Principles of this crate:
//!
//! * What is built lies in a cache outside the tree, under a key made from the content of everything that went into it.
//!   It appears there by one rename, so an interrupted build leaves nothing that a later one could take for whole.
//! * Every program that mk starts is the leader of its own process group, and the group dies with mk.
//! * An error says what was wrong, where, and what to do.
//!
//! Exit status: 0 success, 1 a test or the noise verdict failed, 2 any other error, 130 interrupted.

mod bench;
mod build;
mod cache;
mod child;
mod cli;
mod doc;
mod doctor;
mod image;
mod job;
mod kernel_bench;
mod linux_bench;
mod progress;
mod qemu;
mod run;
mod setup;
mod shell;
mod tail;
mod test;
mod trace;
mod tree;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    child::die_cleanly_on_signals();
    match cli::dispatch(arguments) {
        Ok(code) => code,
        Err(_) if child::interrupted() => {
            eprintln!("mk: interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("mk: {error:#}");
            ExitCode::from(2)
        }
    }
}
