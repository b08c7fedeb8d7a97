//! The few operations on files that storing needs, so that a test can let each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file system.
pub trait Files: Send + Sync {
    /// Makes an empty file, also in place of another, and the folders above it.
    ///
    /// # Errors
    /// What the system says; so below.
    fn create(&self, path: &Path) -> io::Result<()>;
    /// Adds to the end of a file.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Returns when a file's contents outlast a crash.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in place of what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in a folder outlast a crash.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Reads at an offset, less than asked for only at the end.
    fn read(&self, path: &Path, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// The length of a file.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Names in a folder; none if there is no such folder.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Removes a file or a whole folder; fine if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        File::create(path).map(drop)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut OpenOptions::new().append(true).open(path)?, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn read(&self, path: &Path, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let file = File::open(path)?;
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], offset + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            entries => entries?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(file) if file.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

pub mod faulty {
    //! A file system in memory that crashes and fills up where a test wants it.

    use std::collections::{BTreeMap, BTreeSet};
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use super::Files;

    #[derive(Default)]
    struct State {
        /// By name, as a program sees it.
        seen: BTreeMap<PathBuf, usize>,
        /// By name, as a crash leaves it.
        durable: BTreeMap<PathBuf, usize>,
        /// Contents, and how much of them a crash leaves.
        contents: Vec<(Vec<u8>, usize)>,
        /// Operations until the machine crashes.
        crash_in: Option<u32>,
        /// Operations so far.
        operations: u32,
        /// Bytes that still fit.
        room: Option<usize>,
    }

    /// The file system. What was not synced may or may not survive a crash; each crash takes one of the two.
    #[derive(Default)]
    pub struct Memory(Mutex<State>);

    impl Memory {
        fn state(&self) -> std::sync::MutexGuard<'_, State> {
            self.0.lock().expect("no test panics in here")
        }

        /// From now on `operations` more are carried out.
        pub fn crash_in(&self, operations: u32) {
            self.state().crash_in = Some(operations);
        }

        /// From now on only so many more bytes fit.
        pub fn leave_room(&self, bytes: usize) {
            self.state().room = Some(bytes);
        }

        /// Changing operations so far.
        pub fn operations(&self) -> u32 {
            self.state().operations
        }

        /// The crash's end: `lucky` says whether what was not synced survived, of names and of contents.
        pub fn reboot(&self, lucky_names: bool, lucky_contents: bool) {
            let mut state = self.state();
            let State { seen, durable, contents, crash_in, room, .. } = &mut *state;
            (*crash_in, *room) = (None, None);
            if lucky_names {
                durable.clone_from(seen);
            } else {
                seen.clone_from(durable);
            }
            for (bytes, synced) in contents.iter_mut() {
                if !lucky_contents {
                    // The length is often there, and what is not is zero.
                    bytes[*synced..].fill(0);
                }
                *synced = bytes.len();
            }
        }

        /// Turns one bit over.
        pub fn flip(&self, path: &Path, bit: usize) {
            let mut state = self.state();
            let file = state.seen[path];
            state.contents[file].0[bit / 8] ^= 1 << (bit % 8);
        }

        /// All files with their lengths.
        pub fn files(&self) -> Vec<(PathBuf, usize)> {
            let state = self.state();
            state.seen.iter().map(|(path, &file)| (path.clone(), state.contents[file].0.len())).collect()
        }
    }

    impl State {
        fn step(&mut self) -> io::Result<()> {
            self.operations += 1;
            match &mut self.crash_in {
                Some(0) => Err(io::Error::other("the machine is down")),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }

        fn file(&self, path: &Path) -> io::Result<usize> {
            self.seen.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    impl Files for Memory {
        fn create(&self, path: &Path) -> io::Result<()> {
            let mut state = self.state();
            state.step()?;
            state.contents.push((Vec::new(), 0));
            let file = state.contents.len() - 1;
            state.seen.insert(path.into(), file);
            Ok(())
        }

        fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            let mut state = self.state();
            state.step()?;
            let file = state.file(path)?;
            let fits = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            state.contents[file].0.extend(&bytes[..fits]);
            if let Some(room) = &mut state.room {
                *room -= fits;
            }
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn sync(&self, path: &Path) -> io::Result<()> {
            let mut state = self.state();
            state.step()?;
            let file = state.file(path)?;
            let (bytes, synced) = &mut state.contents[file];
            *synced = bytes.len();
            Ok(())
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            let mut state = self.state();
            state.step()?;
            let file = state.file(from)?;
            state.seen.remove(from);
            state.seen.insert(to.into(), file);
            Ok(())
        }

        fn sync_folder(&self, path: &Path) -> io::Result<()> {
            let mut state = self.state();
            state.step()?;
            let State { seen, durable, .. } = &mut *state;
            let inside = |name: &PathBuf| name.parent() == Some(path);
            durable.retain(|name, _| !inside(name));
            durable.extend(seen.iter().filter(|(name, _)| inside(name)).map(|(name, &file)| (name.clone(), file)));
            Ok(())
        }

        fn read(&self, path: &Path, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
            let state = self.state();
            let contents = &state.contents[state.file(path)?].0;
            let rest = contents.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(bytes.len());
            bytes[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn length(&self, path: &Path) -> io::Result<u64> {
            let state = self.state();
            Ok(state.contents[state.file(path)?].0.len() as u64)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            let state = self.state();
            let first = |name: &PathBuf| Some(name.strip_prefix(path).ok()?.iter().next()?.to_str()?.to_owned());
            Ok(state.seen.keys().filter_map(first).collect::<BTreeSet<_>>().into_iter().collect())
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            let mut state = self.state();
            state.step()?;
            // A removal that was not synced may come back; that of others' files never matters.
            state.seen.retain(|name, _| !name.starts_with(path));
            Ok(())
        }
    }
}
