//! Tests of the kernel that an emulator gets wrong. They are left out there, and `mk test` says so.

use super::tally::Tally;
use anyhow::{Context, Result};
use std::process::Command;

/// Names of tests, and what the emulator does.
pub struct Wrong(&'static [(&'static str, &'static str)]);

const FAR_RETURNS: &str =
    "QEMU before 10 makes the accesses of a user's IRETQ and RETFQ as the supervisor, which SMAP forbids";

/// Seen with 7.2.
const OLDER: Wrong = Wrong(&[
    ("no_far_return_leads_out_of_user_mode", FAR_RETURNS),
    ("no_far_return_brings_privileged_flags", FAR_RETURNS),
    ("icebp_is_a_debug_exception_of_the_program", "QEMU before 10 has no INT1"),
]);

/// Seen with 10.0.
const NEWER: Wrong = Wrong(&[
    ("invd_and_wbinvd_fault", "QEMU 10 executes INVD and WBINVD in user mode"),
    ("into_and_vmxon_are_undefined", "QEMU 10 executes INTO in 64-bit mode, and VMXON"),
]);

impl Wrong {
    /// Those of this emulator; the command has nothing to boot.
    pub fn of(mut qemu: Command) -> Result<Self> {
        let output = qemu.arg("--version").output().context("cannot run QEMU")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = major(&text).with_context(|| format!("QEMU tells no version: {text}"))?;
        Ok(if version < 10 { OLDER } else { NEWER })
    }

    /// The word of the tests' command line that leaves them out.
    pub fn skip(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        format!("skip={}", names.join(","))
    }

    /// Whether a test is among them.
    pub fn has(&self, test: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == test)
    }

    /// Says which are left out, of those that are wanted.
    pub fn tell(&self, suite: &str, wanted: impl Fn(&str) -> bool, tally: &mut Tally) {
        for (name, reason) in self.0.iter().filter(|(name, _)| wanted(name)) {
            tally.leave_out(&format!("{suite}: {name}"), reason);
        }
    }
}

fn major(text: &str) -> Option<u32> {
    text.split_once("version ")?.1.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_version_is_read() {
        assert_eq!(major("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0)"), Some(10));
        assert_eq!(major("no such thing"), None);
    }
}
