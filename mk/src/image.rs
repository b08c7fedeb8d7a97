//! `mk image`: what other machines boot from.

use crate::build::{self, Builder};
use crate::qemu;
use anyhow::{Context, Result, bail};
use clap::builder::NonEmptyStringValueParser;
use fs_err as fs;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
Without --iso it builds the disk image (Debian 12 with Tacet's programs, a raw ext4 file system) and prints where it is. The \
ISO boots by BIOS and by UEFI, from a disc or written to a USB stick; it has GRUB, the microkernel and Linux. Linux takes \
the disk image as its root from /dev/vda, unless --append names another (it has drivers for virtio devices so far). The \
microkernel's log goes to the first serial port, 115200 baud.

Examples:
  mk image
  mk image --iso tacet.iso
  mk image --iso tacet.iso --service 2 --append \"root=/dev/vdb quiet\"
  mk boot --loader uefi          boots such an ISO in QEMU")]
pub struct Arguments {
    /// Write a bootable ISO to this file
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,
    /// Service cores; the machine's others become compute cores
    #[arg(long, default_value_t = 1, requires = "iso")]
    service: u32,
    /// Words added to the command line; of two for one thing the later counts
    #[arg(long, value_name = "WORDS", requires = "iso", value_parser = NonEmptyStringValueParser::new())]
    append: Option<String>,
}

impl Arguments {
    /// Refuses what needs no build to be refused.
    pub fn check(&self) -> Result<()> {
        if !(1..=64).contains(&self.service) {
            bail!("--service {}: 1 to 64 service cores", self.service);
        }
        if let Some(iso) = &self.iso {
            let folder = folder_of(iso);
            if iso.is_dir() || iso.file_name().is_none() {
                bail!("--iso {}: a file to write is needed, this is a folder", iso.display());
            }
            if !folder.is_dir() {
                bail!("--iso {}: there is no folder {}", iso.display(), folder.display());
            }
        }
        build::check_command_line(&self.command_line()).context("--append")
    }

    /// Whether an ISO is to be made.
    pub fn wants_iso(&self) -> bool {
        self.iso.is_some()
    }

    fn command_line(&self) -> String {
        qemu::tacet_command_line(self.service, self.append.as_deref().unwrap_or_default())
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Builds, and tells where the results are.
pub fn run(builder: &Builder, options: &Arguments) -> Result<()> {
    let image = builder.image()?;
    println!("disk image: {}", image.display());
    let Some(iso) = &options.iso else { return Ok(()) };
    let (kernel, archive) = builder.tacet_archive()?;
    // Beside its place, so that one rename makes it appear whole.
    let folder = folder_of(iso);
    let new = tempfile::Builder::new().prefix(".tacet-iso-").tempfile_in(folder);
    let new = new.with_context(|| format!("cannot write to {}", folder.display()))?;
    build::make_iso(&kernel, &[&archive], &options.command_line(), new.path())?;
    fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    new.persist(iso).with_context(|| format!("cannot write {}", iso.display()))?;
    println!("ISO: {} ({} MiB)", iso.display(), fs::metadata(iso)?.len() >> 20);
    println!("command line: {}", options.command_line());
    Ok(())
}
