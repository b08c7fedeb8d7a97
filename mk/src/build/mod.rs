//! `mk build`: all that is booted, each part in a stage of the cache.

mod archive;
mod debian;
mod image;
mod iso;
mod kernel;
mod linux;
mod meter;
mod newer_qemu;
mod tools;
mod vendor;

use crate::cache::Cache;
use crate::tree::Tree;
use anyhow::Result;
use std::path::PathBuf;

pub use archive::newc_archive;
pub use iso::{check_command_line, make as make_iso};
pub use kernel::{CheckedKernel, Kernel, Toolchain};
pub use linux::Linux;
pub use meter::Meter;
pub use newer_qemu::NewerQemu;
pub use tools::Tools;
pub use vendor::Vendor;

/// Makes the parts, each at most once.
pub struct Builder<'a> {
    tree: &'a Tree,
    cache: Cache,
}

impl<'a> Builder<'a> {
    /// A builder for `tree`.
    pub fn new(tree: &'a Tree) -> Self {
        Self { tree, cache: Cache::new(tree.cache()) }
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The checkout.
    pub fn tree(&self) -> &Tree {
        self.tree
    }

    /// The microkernel and the root task.
    pub fn kernel(&self) -> Result<Kernel> {
        kernel::build(self.tree, &self.cache)
    }

    /// Linux for Tacet.
    pub fn linux(&self) -> Result<Linux> {
        linux::build(self.tree, &self.cache)
    }

    /// The programs for the inside of the image.
    pub fn tools(&self) -> Result<Tools> {
        tools::build(self.tree, &self.cache)
    }

    /// The noise meter and the bare floor.
    pub fn meter(&self) -> Result<Meter> {
        meter::build(self.tree, &self.cache)
    }

    /// A QEMU that emulates what Debian 12's own does not.
    pub fn newer_qemu(&self) -> Result<NewerQemu> {
        newer_qemu::build(&self.cache)
    }

    /// Debian's own kernel.
    pub fn vendor(&self) -> Result<Vendor> {
        vendor::build(self.tree, &self.cache)
    }

    /// The root file system, a raw ext4 image.
    pub fn image(&self) -> Result<PathBuf> {
        let vendor = self.vendor()?;
        let base = debian::build(&self.cache, &vendor)?;
        let tools = self.tools()?;
        let linux = self.linux()?;
        image::build(self.tree, &self.cache, &base, &tools, &linux.modules)
    }

    /// The fuzzer, and the microkernel that it runs on.
    pub fn checked_kernel(&self) -> Result<CheckedKernel> {
        kernel::build_checked(self.tree, &self.cache)
    }

    /// The archive that boots Tacet: root task, Linux, and symbols for the microkernel's backtraces.
    pub fn tacet_archive(&self) -> Result<(Kernel, PathBuf)> {
        let kernel = self.kernel()?;
        let linux = self.linux()?;
        let archive = archive::tacet(&self.cache, &kernel, &linux.vmlinux)?;
        Ok((kernel, archive))
    }

    /// Everything.
    pub fn all(&self) -> Result<()> {
        self.meter()?;
        self.tacet_archive()?;
        self.image()?;
        Ok(())
    }
}
