//! Ctrl-C, hang-ups and SIGTERM for experiments that have started processes and made files: they end as by an error, so
//! that these go, too.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// The status that a shell gives to who was ended by Ctrl-C.
pub const STATUS: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// A signal asked for the end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// From now on such a signal only makes [`check`] fail; a second one ends the process at once.
///
/// # Errors
/// If signals cannot be handled.
pub fn watch() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(STATUS.into());
        }
    })
    .context("cannot handle signals")
}

/// Whether a signal has come.
pub fn requested() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// # Errors
/// If a signal has come.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}
