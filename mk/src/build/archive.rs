//! Boot archives: cpio in the "newc" form (Linux's Documentation/driver-api/early-userspace/buffer-format.rst).

use super::kernel::Kernel;
use crate::cache::{Cache, Key};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// One file of an archive.
pub struct Entry {
    /// Path inside, without a leading slash.
    pub name: String,
    /// Type and permissions as in `st_mode`.
    pub mode: u32,
    pub content: Vec<u8>,
}

impl Entry {
    /// A regular file.
    pub fn file(name: &str, permissions: u32, content: Vec<u8>) -> Self {
        Self { name: name.to_owned(), mode: 0o100000 | permissions, content }
    }

    /// A folder.
    pub fn folder(name: &str) -> Self {
        Self { name: name.to_owned(), mode: 0o040755, content: Vec::new() }
    }
}

/// An archive of `entries` in their order, owned by root, without times.
pub fn newc(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        append(&mut archive, number + 1, entry);
    }
    append(&mut archive, 0, &Entry { name: "TRAILER!!!".into(), mode: 0, content: Vec::new() });
    archive
}

fn append(archive: &mut Vec<u8>, inode: usize, entry: &Entry) {
    let links = if entry.mode & 0o170000 == 0o040000 { 2 } else { 1 };
    let fields = [
        inode as u32,
        entry.mode,
        0,
        0,
        links,
        0,
        entry.content.len() as u32,
        0,
        0,
        0,
        0,
        entry.name.len() as u32 + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(entry.name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(&entry.content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// A boot archive of these files.
pub fn newc_archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<Entry> = files.iter().map(|(name, content)| Entry::file(name, 0o644, content.to_vec())).collect();
    newc(&entries)
}

/// The archive that boots Tacet.
pub fn tacet(cache: &Cache, kernel: &Kernel, linux: &Path) -> Result<PathBuf> {
    let key = Key::new("archive 1").path(&kernel.root)?.path(&kernel.symbols)?.path(linux)?;
    let folder = cache.stage("archive", &key.finish(), |out| {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let archive = newc(&[
            Entry::file("root", 0o755, read(&kernel.root)?),
            Entry::file("symbols", 0o644, read(&kernel.symbols)?),
            Entry::file("vmlinux", 0o755, read(linux)?),
        ]);
        Ok(fs::write(out.join("tacet.cpio"), archive)?)
    })?;
    Ok(folder.join("tacet.cpio"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_what_newc_writes() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.cpio");
        let entries =
            [Entry::folder("d"), Entry::file("d/odd", 0o644, b"12345".to_vec()), Entry::file("run", 0o755, vec![])];
        fs::write(&archive, newc(&entries)).unwrap();
        let listing = Command::new("cpio")
            .args(["--quiet", "-i", "-d", "--no-absolute-filenames"])
            .current_dir(folder.path())
            .stdin(fs::File::open(&archive).unwrap())
            .stderr(Stdio::inherit())
            .status();
        // A machine without cpio cannot tell.
        let Ok(status) = listing else { return };
        assert!(status.success());
        assert_eq!(fs::read(folder.path().join("d/odd")).unwrap(), b"12345");
        assert_eq!(fs::read(folder.path().join("run")).unwrap(), b"");
    }
}
