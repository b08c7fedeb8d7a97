//! The cluster's key.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use gossip_core::seal::Key;

/// Why a key file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Cannot be read.
    #[error("cannot read the key file {path}: {1}", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// Others than the owner may read or write it.
    #[error(
        "the key file {path} is open to others (mode {1:03o}): chmod 600 it and use a new key",
        path = .0.display()
    )]
    Open(PathBuf, u32),
    /// Too short to be secret.
    #[error(
        "the key file {path} has {1} bytes, at least 32 are needed: \
         head -c 32 /dev/urandom > FILE",
        path = .0.display()
    )]
    Short(PathBuf, usize),
}

/// Reads the key from a file that only its owner may read.
///
/// # Errors
/// [`KeyError`].
pub fn load(path: &Path) -> Result<Key, KeyError> {
    let read = |error| KeyError::Read(path.into(), error);
    let mode = std::fs::metadata(path).map_err(read)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open(path.into(), mode));
    }
    let material = std::fs::read(path).map_err(read)?;
    if material.len() < 32 {
        return Err(KeyError::Short(path.into(), material.len()));
    }
    Ok(Key::derive(&material))
}

/// A key that nobody else has, for a node that is alone.
///
/// # Errors
/// If the system gives no random numbers.
pub fn lonely() -> anyhow::Result<Key> {
    use std::io::Read;
    let mut material = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut material))
        .context("cannot read /dev/urandom")?;
    Ok(Key::derive(&material))
}
