//! Where things are: the checkout, and the cache outside of it.

use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout that mk works on, and the cache that holds what it builds.
pub struct Tree {
    root: PathBuf,
    cache: PathBuf,
}

impl Tree {
    /// Finds both. The bootstrap script names the checkout in `TACET_TREE`; without it, the current folder or one above
    /// must be it. The cache is `$TACET_CACHE`, else `$XDG_CACHE_HOME/tacet`, else `~/.cache/tacet`; it is created.
    pub fn find() -> Result<Self> {
        let root = match env::var_os("TACET_TREE") {
            Some(named) => PathBuf::from(named),
            None => {
                let here = env::current_dir().context("cannot tell the current folder")?;
                here.ancestors()
                    .find(|folder| is_checkout(folder))
                    .context("not inside a checkout of Tacet: use its ./mk/mk, or set TACET_TREE")?
                    .to_owned()
            }
        };
        if !is_checkout(&root) {
            bail!("{} is not a checkout of Tacet (TACET_TREE)", root.display());
        }
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).with_context(|| {
            format!("cannot create the cache {}: set TACET_CACHE to a folder that can be written", cache.display())
        })?;
        Ok(Self { root: root.canonicalize()?, cache })
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder in which everything lies that is built or downloaded.
    pub fn cache(&self) -> &Path {
        &self.cache
    }
}

fn is_checkout(folder: &Path) -> bool {
    folder.join("mk/Cargo.toml").is_file() && folder.join("microkernel").is_dir()
}

fn cache_folder() -> Result<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = folder("TACET_CACHE") {
        return std::path::absolute(cache).context("TACET_CACHE");
    }
    if let Some(caches) = folder("XDG_CACHE_HOME") {
        return std::path::absolute(caches.join("tacet")).context("XDG_CACHE_HOME");
    }
    let home = folder("HOME").context("none of TACET_CACHE, XDG_CACHE_HOME and HOME is set: set one")?;
    Ok(home.join(".cache/tacet"))
}
