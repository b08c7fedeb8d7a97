//! The noise meter, a plugin for QEMU, and the bare-metal floor.

use crate::cache::{Cache, Key};
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// What was built.
pub struct Meter {
    /// QEMU loads it with `-plugin`.
    pub plugin: PathBuf,
    /// A PVH ELF that runs the work quantum on cores without any system.
    pub bare: PathBuf,
}

/// Builds both, or finds them built.
pub fn build(tree: &Tree, cache: &Cache) -> Result<Meter> {
    let fwq = tree.root().join("fwq");
    let key = Key::new("meter 1").path(&fwq.join("plugin"))?.path(&fwq.join("bare"))?.path(&fwq.join("asm"))?;
    let folder = cache.stage("meter", &key.finish(), |out| {
        let mut step = Step::begin(cache, "noise meter", 3)?;
        let mut command = Command::new("gcc");
        command.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(out.join("libtacet-meter.so"));
        command.arg(fwq.join("plugin/meter.c"));
        step.run(&mut command, "the compilation of the noise meter")?;
        let mut command = Command::new("sh");
        command.arg(fwq.join("bare/build.sh")).arg(out.join("bare.elf"));
        step.run(&mut command, "the build of the bare-metal floor")?;
        step.done();
        Ok(())
    })?;
    Ok(Meter { plugin: folder.join("libtacet-meter.so"), bare: folder.join("bare.elf") })
}
