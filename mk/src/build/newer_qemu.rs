//! A QEMU that emulates an x2APIC, which Debian 12's own does not: from bookworm-backports at the machine's own mirror,
//! unpacked, not installed.

use crate::cache::{Cache, Key, sorted_names};
use crate::progress::Step;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "bookworm-backports";

/// The emulator and its firmware; the libraries are the same as those of Debian 12's QEMU.
const PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// Where Debian keeps the keys of its archive.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked QEMU.
pub struct NewerQemu(PathBuf);

impl NewerQemu {
    /// The emulator of x86-64, with nothing to boot.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.0.join("usr/bin/qemu-system-x86_64"));
        command.env("QEMU_MODULE_DIR", self.0.join("usr/lib/x86_64-linux-gnu/qemu"));
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.0.join(data));
        }
        command
    }
}

/// Fetches and unpacks it, or finds that done.
pub fn build(cache: &Cache) -> Result<NewerQemu> {
    let mirror = mirror()?;
    let key = Key::new("newer-qemu 1").text(&mirror).text(SUITE).text(&PACKAGES.join(" "));
    let folder = cache.stage("newer-qemu", &key.finish(), |out| {
        let mut step = Step::begin(cache, "QEMU with x2APIC", 10)?;
        let work = tempfile::tempdir_in(out)?;
        for name in ["lists/partial", "archives/partial", "packages"] {
            fs::create_dir_all(work.path().join(name))?;
        }
        fs::write(work.path().join("sources.list"), format!("deb [signed-by={KEYS}] {mirror} {SUITE} main\n"))?;
        step.run(apt_get(work.path()).arg("update"), &format!("the list of {SUITE}"))?;
        let packages = PACKAGES.iter().map(|name| format!("{name}/{SUITE}"));
        step.run(apt_get(work.path()).arg("download").args(packages), &format!("the download of QEMU from {SUITE}"))?;
        for name in sorted_names(&work.path().join("packages"))? {
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(work.path().join("packages").join(name)).arg(out);
            step.run(&mut command, "the unpacking of QEMU")?;
        }
        step.done();
        Ok(())
    })?;
    Ok(NewerQemu(folder))
}

/// An apt-get with lists and archives of its own in `work`, so that the machine's stay as they are.
fn apt_get(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    for (name, place) in
        [("Dir::Etc::sourcelist", "sources.list"), ("Dir::State::lists", "lists"), ("Dir::Cache::archives", "archives")]
    {
        command.arg("-o").arg(format!("{name}={}", work.join(place).display()));
    }
    command.args(["-q", "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]);
    command.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
    command.current_dir(work.join("packages"));
    command
}

/// Where this machine's apt has Debian 12 from.
fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(CODENAME)", "Created-By: Packages"])
        .output()
        .context("cannot run apt-get")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    match select_mirror(&listed) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => {
            bail!("this machine's apt has no lists of Debian 12 (bookworm): add its sources, then run apt-get update")
        }
    }
}

/// From lines `ORIGIN|ADDRESS|CODENAME`.
fn select_mirror(listed: &str) -> Option<&str> {
    listed.lines().find_map(|line| line.strip_prefix("Debian|")?.strip_suffix("|bookworm"))
}

#[cfg(test)]
mod tests {
    use super::select_mirror;

    #[test]
    fn the_mirror_is_where_debian_12_itself_comes_from() {
        let listed = "Other|http://other/|bookworm\nDebian|http://security/|bookworm-security\nDebian|http://mirror/debian/|bookworm\n";
        assert_eq!(select_mirror(listed), Some("http://mirror/debian/"));
        assert_eq!(select_mirror("Debian|http://mirror/debian/|trixie\n"), None);
    }
}
