//! What was built, kept outside the tree under a key made from the content of all that went into it.

use crate::child;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How many results of one stage stay; the older ones go when a new one is made.
const KEEP: usize = 3;

/// A key under construction.
pub struct Key(Sha256);

impl Key {
    /// `version` names how the stage builds: change it where mk builds the same input differently.
    pub fn new(version: &str) -> Self {
        Self(Sha256::new()).text(version)
    }

    /// Adds a word. Words are kept apart: ("ab", "c") is not ("a", "bc").
    pub fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds the content and the permissions of a file, or of all files below a folder with their names; build output
    /// (`target`, objects, editor backups) does not count.
    pub fn path(mut self, path: &Path) -> Result<Self> {
        let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.is_dir() {
            for name in sorted_names(path)? {
                if name == "target" || name == ".git" || name.ends_with('~') || name.ends_with(".o") {
                    continue;
                }
                self = self.text(&name).path(&path.join(&name))?;
            }
            Ok(self.text("end of folder"))
        } else if metadata.is_symlink() {
            Ok(self.text(&fs::read_link(path)?.to_string_lossy()))
        } else {
            self = self.text(&format!("{:o}", metadata.permissions().mode() & 0o777));
            let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut buffer = vec![0; 1 << 16];
            self.0.update(metadata.len().to_le_bytes());
            loop {
                let count = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
                if count == 0 {
                    return Ok(self);
                }
                self.0.update(&buffer[..count]);
            }
        }
    }

    /// The key as a file name.
    pub fn finish(self) -> String {
        self.0.finalize()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The names in a folder, sorted, so that a key does not depend on the file system.
pub fn sorted_names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", folder.display()))?.file_name();
        match name.into_string() {
            Ok(name) => names.push(name),
            Err(name) => bail!("{} has a file whose name is not UTF-8: {name:?}", folder.display()),
        }
    }
    names.sort();
    Ok(names)
}

/// The cache.
#[derive(Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A folder for what the builders themselves keep up to date (cargo's target folders, kernel trees, logs).
    pub fn work(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// The path of a file of its own in the cache.
    pub fn root_file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The result of `stage` for `key`: a folder, filled by `build` if it is not there. It appears by a rename when it is
    /// whole. Two mk at once wait for each other.
    pub fn stage(&self, stage: &str, key: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.work(stage)?;
        let result = folder.join(key);
        if result.is_dir() {
            touch(&result);
            return Ok(result);
        }
        let lock = self.lock(stage)?;
        if result.is_dir() {
            return Ok(result);
        }
        let unfinished = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(&folder)
            .with_context(|| format!("cannot create a folder in {}", folder.display()))?;
        build(unfinished.path())?;
        if child::interrupted() {
            bail!("interrupted");
        }
        fs::set_permissions(unfinished.path(), fs::Permissions::from_mode(0o755))?;
        fs::rename(unfinished.path(), &result).with_context(|| format!("cannot create {}", result.display()))?;
        // Renamed: nothing is left to be removed.
        let _ = unfinished.keep();
        drop(lock);
        prune(&folder)?;
        Ok(result)
    }

    /// Holds off any other mk from `name` until the answer is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.work("locks")?.join(name);
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut told = false;
        while file.try_lock().is_err() {
            if child::interrupted() {
                bail!("interrupted");
            }
            if !told {
                eprintln!("mk: waiting for another mk that works on {name}");
                told = true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(file)
    }
}

fn touch(folder: &Path) {
    // The time orders what prune() keeps; a cache that cannot be written still can be read.
    if let Ok(file) = File::open(folder) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes all but the newest results, and what a killed mk left unfinished (the caller's own is renamed by now).
fn prune(folder: &Path) -> Result<()> {
    let mut results = Vec::new();
    for name in sorted_names(folder)? {
        let path = folder.join(&name);
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        if name.starts_with(".unfinished-") {
            let _ = fs::remove_dir_all(&path);
        } else {
            results.push((modified, path));
        }
    }
    results.sort();
    let surplus = results.len().saturating_sub(KEEP);
    for (_, path) in &results[..surplus] {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(folder: &Path) -> String {
        Key::new("1").path(folder).unwrap().finish()
    }

    #[test]
    fn a_key_follows_content_name_and_mode_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "one").unwrap();
        let before = key(folder.path());
        fs::write(&file, "one").unwrap();
        fs::write(folder.path().join("a.o"), "object").unwrap();
        assert_eq!(before, key(folder.path()));
        fs::write(&file, "two").unwrap();
        assert_ne!(before, key(folder.path()));
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(before, key(folder.path()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(&file, folder.path().join("b")).unwrap();
        assert_ne!(before, key(folder.path()));
    }

    #[test]
    fn words_are_kept_apart() {
        assert_ne!(Key::new("ab").text("c").finish(), Key::new("a").text("bc").finish());
    }

    #[test]
    fn a_stage_is_built_once_and_a_failed_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let failed = cache.stage("s", "k", |out| {
            fs::write(out.join("half"), "")?;
            bail!("no")
        });
        assert!(failed.is_err());
        assert_eq!(sorted_names(&folder.path().join("s")).unwrap(), Vec::<String>::new());
        let built = cache.stage("s", "k", |out| Ok(fs::write(out.join("whole"), "x")?)).unwrap();
        assert!(built.join("whole").is_file());
        let again = cache.stage("s", "k", |_| panic!("built twice")).unwrap();
        assert_eq!(built, again);
    }

    #[test]
    fn old_results_go() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        for key in ["1", "2", "3", "4", "5"] {
            cache.stage("s", key, |_| Ok(())).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
        assert_eq!(sorted_names(&folder.path().join("s")).unwrap(), ["3", "4", "5"]);
    }
}
