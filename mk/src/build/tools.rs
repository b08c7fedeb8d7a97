//! The programs and libraries that the image gets from this project.

use crate::cache::{Cache, Key};
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A folder with the programs.
pub struct Tools {
    pub folder: PathBuf,
}

/// What cargo makes, and where in the image it goes.
const INSTALLED: &[(&str, &str)] = &[
    ("decouple", "/usr/local/bin/decouple"),
    ("recouple", "/usr/local/bin/recouple"),
    ("corectl", "/usr/local/bin/corectl"),
    ("fwq", "/usr/local/bin/fwq"),
    ("mpi-fwq", "/usr/local/bin/mpi-fwq"),
    ("opcost", "/usr/local/bin/opcost"),
    ("gossip-mgr", "/usr/local/bin/gossip-mgr"),
    ("libdecouple.so", "/usr/local/lib/libdecouple.so"),
    ("libdecouple_preload.so", "/usr/local/lib/libdecouple-preload.so"),
];

impl Tools {
    /// Each file with its place in the image.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, &'static str)> + '_ {
        INSTALLED.iter().map(|(name, place)| (self.folder.join(name), *place))
    }
}

/// Builds them, or finds them built. They are for Debian 12, which this machine must be: the image has its C library.
pub fn build(tree: &Tree, cache: &Cache) -> Result<Tools> {
    let mut key = Key::new("tools 1").text(&compiler());
    for part in ["Cargo.toml", "Cargo.lock", "decouple", "fwq", "gossip-mgr"] {
        key = key.path(&tree.root().join(part))?;
    }
    let folder = cache.stage("tools", &key.finish(), |out| {
        let mut step = Step::begin(cache, "decouple, fwq, mpi-fwq and gossip-mgr", 250)?;
        let target = cache.work_for(tree.root(), "tools")?;
        let mut command = Command::new("cargo");
        command
            .args([
                "build",
                "--release",
                "-p",
                "decouple",
                "-p",
                "decouple-capi",
                "-p",
                "decouple-preload",
                "-p",
                "gossip-mgr",
            ])
            .args(["-p", "fwq", "--features", "fwq/mpi", "--target-dir"])
            .arg(&target)
            .current_dir(tree.root());
        step.run(&mut command, "the build of the tools")?;
        for (name, _) in INSTALLED {
            let built = target.join("release").join(name);
            fs::copy(&built, out.join(name)).with_context(|| format!("cargo did not make {}", built.display()))?;
        }
        step.done();
        Ok(())
    })?;
    Ok(Tools { folder })
}

fn compiler() -> String {
    let version = Command::new("cargo").arg("--version").output();
    version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
