//! What was built, kept outside the tree under a key made from the content of all that went into it.

use crate::child;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// The results that this process was given, locked against [`prune`] by others.
    in_use: Arc<Mutex<Vec<File>>>,
}

impl Cache {
    /// The cache in `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), in_use: Arc::default() }
    }

    /// A folder for what mk and the builders themselves keep up to date (kernel trees, logs).
    pub fn work(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// The same for what belongs to one source tree: cargo, which goes by times, would take what it built of another tree for
    /// up to date. The folders of trees that are gone go too.
    pub fn work_for(&self, tree: &Path, name: &str) -> Result<PathBuf> {
        const ORIGIN: &str = "tree";
        let all = self.work("trees")?;
        for other in sorted_names(&all)? {
            let gone =
                fs::read_to_string(all.join(&other).join(ORIGIN)).is_ok_and(|origin| !Path::new(&origin).exists());
            if gone {
                fs::remove_dir_all(all.join(&other))
                    .with_context(|| format!("cannot remove {other} in {}", all.display()))?;
            }
        }
        let own = Path::new("trees").join(Key::new("tree").text(&tree.to_string_lossy()).finish());
        let folder = self.work(&own.join(name).to_string_lossy())?;
        let origin = self.root.join(own).join(ORIGIN);
        fs::write(&origin, tree.to_string_lossy().as_bytes())
            .with_context(|| format!("cannot write {}", origin.display()))?;
        Ok(folder)
    }

    /// The path of a file of its own in the cache.
    pub fn root_file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The result of `stage` for `key`: a folder, filled by `build` if it is not there. It appears by a rename when it is
    /// whole, and stays at least as long as this cache is used. Two mk at once wait for each other.
    pub fn stage(&self, stage: &str, key: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.work(stage)?;
        let result = folder.join(key);
        if self.hold(&result) {
            return Ok(result);
        }
        let lock = self.lock(stage)?;
        if self.hold(&result) {
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
        self.hold(&result);
        prune(&folder)?;
        drop(lock);
        Ok(result)
    }

    /// Whether the result is there; if so, nobody removes it from now on.
    fn hold(&self, result: &Path) -> bool {
        let Ok(folder) = File::open(result) else { return false };
        // The time orders what prune() keeps; a cache that cannot be written still can be read.
        let _ = folder.set_modified(SystemTime::now());
        // Not there any more if somebody was removing it until we got the lock.
        let there = folder.lock_shared().is_ok() && result.is_dir();
        if there {
            self.in_use.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        }
        there
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

/// Removes all but the newest results and those in use, and what a killed mk left unfinished. The caller has the stage's lock,
/// and renamed its own result by now.
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
        let held = File::open(path).and_then(|folder| folder.try_lock().map_err(Into::into).map(|()| folder));
        // Unlocked after the removal: who waits for it then sees that it is gone.
        let Ok(_lock) = held else { continue };
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
    fn trees_do_not_share_a_folder_and_gone_ones_leave_none() {
        let (folder, one, two) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cache = Cache::new(folder.path());
        let first = cache.work_for(one.path(), "s").unwrap();
        let second = cache.work_for(two.path(), "s").unwrap();
        assert_ne!(first, second);
        assert_eq!(first, cache.work_for(one.path(), "s").unwrap());
        assert!(second.is_dir());
        drop(one);
        cache.work_for(two.path(), "s").unwrap();
        assert!(!first.exists() && second.is_dir());
    }

    fn results_after(folder: &Path, keys: &[&str]) -> Vec<String> {
        for key in keys {
            // Each by an mk of its own, which has ended.
            Cache::new(folder).stage("s", key, |_| Ok(())).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
        sorted_names(&folder.join("s")).unwrap()
    }

    #[test]
    fn old_results_go() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(results_after(folder.path(), &["1", "2", "3", "4", "5"]), ["3", "4", "5"]);
    }

    #[test]
    fn a_result_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let user = Cache::new(folder.path());
        user.stage("s", "1", |_| Ok(())).unwrap();
        assert_eq!(results_after(folder.path(), &["2", "3", "4", "5"]), ["1", "3", "4", "5"]);
        drop(user);
        assert_eq!(results_after(folder.path(), &["6"]), ["4", "5", "6"]);
    }
}
