//! `mk setup`: what this machine must have installed.

use crate::child::Running;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// The lists, one package and its purpose a line: what mk always needs, and what only an ISO does.
const PACKAGES: &str = include_str!("../packages");
const PACKAGES_ISO: &str = include_str!("../packages-iso");

/// A package and what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Package {
    pub name: &'static str,
    pub purpose: &'static str,
}

/// All packages that mk needs; with `iso` also those for making and booting an ISO.
pub fn packages(iso: bool) -> Vec<Package> {
    PACKAGES
        .lines()
        .chain(if iso { PACKAGES_ISO.lines() } else { "".lines() })
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(name, purpose)| Package { name, purpose: purpose.trim() })
        .collect()
}

/// Those of the list that are not installed.
pub fn missing(iso: bool) -> Result<Vec<Package>> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(packages(iso).iter().map(|package| package.name))
        .stderr(Stdio::null())
        .output()
        .context("cannot run dpkg-query: mk installs what it needs on Debian 12 and its derivatives only")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    Ok(packages(iso).into_iter().filter(|package| !installed.contains(package.name)).collect())
}

/// Installs what is missing, as root or through sudo, and says what and why. With `only_list` it fails where something is
/// missing.
pub fn ensure(only_list: bool, iso: bool) -> Result<()> {
    let missing = missing(iso)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("mk: missing on this machine:");
    for package in &missing {
        eprintln!("    {:24} {}", package.name, package.purpose);
    }
    if only_list {
        bail!("--no-install was given, so nothing was installed; `mk setup` installs the packages above");
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    apt_get(&["update", "-qq"])?;
    let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
    words.extend(names);
    apt_get(&words)
}

fn apt_get(words: &[&str]) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(words);
    let status = Running::start(&mut command, "apt-get")?.wait()?;
    if !status.success() {
        let who = if root { "" } else { "; without sudo, ask root to run it" };
        bail!("apt-get {} failed; its messages are above{who}", words.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::packages;

    #[test]
    fn every_package_has_a_name_that_apt_takes_and_a_purpose() {
        assert!(packages(true).len() > packages(false).len());
        for package in packages(true) {
            assert!(package.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c)));
            assert!(!package.purpose.is_empty(), "{} lacks its purpose", package.name);
        }
    }
}
