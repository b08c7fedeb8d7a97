//! A node's store: objects that are complete or absent, and known to be undamaged before they are used.
//!
//! An object is a file: its bytes, its label as JSON, the BLAKE3 hashes of both, the label's length, and a mark. It is
//! written under another name, synced, and renamed. A piece's bytes are in files that the program wrote; its object is
//! made last, from files that are synced. Removing begins with the objects.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::Files;
use crate::id::{CheckpointId, Job, Object};
use crate::manifest::{File, Hash, Label, Manifest};

const MARK: [u8; 8] = *b"gossipC1";
/// Behind the label: both hashes, the label's length, the mark.
const END: u64 = 32 + 32 + 8 + 8;
/// A label that is longer is none.
const LONGEST_LABEL: u64 = 64 << 20;
/// Bytes that are read at once.
const PART: usize = 1 << 20;
/// Ends the name of a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// Why an object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The system says so.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which file.
        path: String,
        /// How.
        what: &'static str,
    },
}

/// The objects below one folder.
pub struct Store<F> {
    files: F,
    root: PathBuf,
    /// Tells this store's unfinished files from those of others that write to the same shared folder, with how many it began.
    writer: (u64, AtomicU64),
}

impl<F: Files> Store<F> {
    /// The store in a folder.
    pub fn new(files: F, root: impl Into<PathBuf>) -> Self {
        // Each of these has keys at random.
        let writer = (RandomState::new().build_hasher().finish(), AtomicU64::new(0));
        Self { files, root: root.into(), writer }
    }

    /// What it is kept in.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn job_folder(&self, job: &Job) -> PathBuf {
        self.root.join(job.owner.to_string()).join(job.name.as_str())
    }

    fn folder(&self, job: &Job, id: CheckpointId) -> PathBuf {
        self.job_folder(job).join(id.to_string())
    }

    /// Where an object is.
    pub fn path(&self, job: &Job, id: CheckpointId, object: Object) -> PathBuf {
        self.folder(job, id).join(object.to_string())
    }

    /// The folder in which a rank writes its files.
    pub fn piece_folder(&self, job: &Job, id: CheckpointId, rank: u32) -> PathBuf {
        self.folder(job, id).join(format!("piece.{rank}.files"))
    }

    /// Jobs of which something is stored.
    ///
    /// # Errors
    /// What the system says.
    pub fn jobs(&self) -> io::Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for owner in self.files.list(&self.root)?.iter().filter_map(|name| name.parse::<u32>().ok()) {
            let names = self.files.list(&self.root.join(owner.to_string()))?;
            jobs.extend(names.iter().filter_map(|name| Some(Job { owner, name: name.parse().ok()? })));
        }
        Ok(jobs)
    }

    /// Checkpoints of which something is stored.
    ///
    /// # Errors
    /// What the system says.
    pub fn checkpoints(&self, job: &Job) -> io::Result<Vec<CheckpointId>> {
        Ok(self.files.list(&self.job_folder(job))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Objects of a checkpoint, by their names.
    ///
    /// # Errors
    /// What the system says.
    pub fn objects(&self, job: &Job, id: CheckpointId) -> io::Result<Vec<Object>> {
        Ok(self.files.list(&self.folder(job, id))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Writes an object: the bytes that `more` gives, until it gives none, and the label.
    ///
    /// # Errors
    /// What `more` or the system says; then there is no such object, or the one that was there before.
    pub fn write(
        &self,
        job: &Job,
        id: CheckpointId,
        object: Object,
        label: &Label,
        mut more: impl FnMut() -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let folder = self.folder(job, id);
        let (writer, begun) = &self.writer;
        let number = begun.fetch_add(1, Ordering::Relaxed);
        let unfinished = folder.join(format!("{object}.{writer:016x}-{number}{UNFINISHED}"));
        let written = (|| {
            self.files.create(&unfinished)?;
            let mut hasher = blake3::Hasher::new();
            loop {
                let bytes = more()?;
                if bytes.is_empty() {
                    break;
                }
                hasher.update(&bytes);
                self.files.append(&unfinished, &bytes)?;
            }
            let mut end = serde_json::to_vec(label)?;
            let length = end.len() as u64;
            end.extend(hasher.finalize().as_bytes());
            end.extend(blake3::hash(&end).as_bytes());
            end.extend(length.to_le_bytes());
            end.extend(MARK);
            self.files.append(&unfinished, &end)?;
            self.files.sync(&unfinished)?;
            self.files.rename(&unfinished, &self.path(job, id, object))?;
            self.files.sync_folder(&folder)
        })();
        if written.is_err() {
            // It failed already; what cannot be removed is removed with the checkpoint.
            let _ = self.files.remove(&unfinished);
        }
        written
    }

    /// Syncs and hashes the files that a rank wrote: path that the program uses, and name in the piece's folder.
    ///
    /// # Errors
    /// [`Unusable::Io`].
    pub fn gather(
        &self,
        job: &Job,
        id: CheckpointId,
        rank: u32,
        named: &[(String, String)],
    ) -> Result<Vec<File>, Unusable> {
        let folder = self.piece_folder(job, id, rank);
        let gather = |(path, name): &(String, String)| {
            let at = folder.join(name);
            let fault = |error| Unusable::Io { path: at.display().to_string(), error };
            self.files.sync(&at).map_err(fault)?;
            let (length, hash) = self.hash(&at)?;
            Ok(File { name: name.clone(), path: path.clone(), length, hash: Hash(hash) })
        };
        let files = named.iter().map(gather).collect::<Result<Vec<_>, Unusable>>()?;
        if !files.is_empty() {
            self.files
                .sync_folder(&folder)
                .map_err(|error| Unusable::Io { path: folder.display().to_string(), error })?;
        }
        Ok(files)
    }

    fn hash(&self, path: &Path) -> Result<(u64, blake3::Hash), Unusable> {
        let mut hasher = blake3::Hasher::new();
        let (mut buffer, mut length) = (vec![0; PART], 0);
        loop {
            let read = self.files.read(path, length, &mut buffer);
            let count = read.map_err(|error| Unusable::Io { path: path.display().to_string(), error })?;
            if count == 0 {
                return Ok((length, hasher.finalize()));
            }
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
    }

    /// The label of an object, which is hashed itself, the length of its bytes, and their hash.
    fn open(&self, path: &Path) -> Result<(Label, u64, blake3::Hash), Unusable> {
        let name = || path.display().to_string();
        let io = |error| Unusable::Io { path: name(), error };
        let damaged = |what| Unusable::Damaged { path: name(), what };
        let read = |offset: u64, length: u64| {
            let mut bytes = vec![0; length as usize];
            match self.files.read(path, offset, &mut bytes).map_err(io)? {
                count if count as u64 == length => Ok(bytes),
                _ => Err(damaged("it is too short")),
            }
        };
        let total = self.files.length(path).map_err(io)?;
        let begin = total.checked_sub(END).ok_or_else(|| damaged("it is too short"))?;
        let end = read(begin, END)?;
        if end[72..] != MARK {
            return Err(damaged("its end is not that of an object"));
        }
        let length = u64::from_le_bytes(end[64..72].try_into().expect("eight bytes"));
        let payload = begin.checked_sub(length).filter(|_| length <= LONGEST_LABEL);
        let payload = payload.ok_or_else(|| damaged("its label's length is wrong"))?;
        let mut text = read(payload, length)?;
        let label_length = text.len();
        text.extend(&end[..32]);
        if blake3::hash(&text).as_bytes() != &end[32..64] {
            return Err(damaged("its label's hash is wrong"));
        }
        let label = serde_json::from_slice(&text[..label_length]);
        let label = label.map_err(|_| damaged("its label is of another version"))?;
        Ok((label, payload, blake3::Hash::from_slice(&end[..32]).expect("32 bytes")))
    }

    /// The label of an object. Its bytes are not looked at.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn label(&self, job: &Job, id: CheckpointId, object: Object) -> Result<Label, Unusable> {
        let path = self.path(job, id, object);
        let (label, length, _) = self.open(&path)?;
        let damaged = |what| Err(Unusable::Damaged { path: path.display().to_string(), what });
        let fits = match (&label, object) {
            (Label::Piece(m), Object::Piece { rank }) => m.id == id && m.rank == rank && length == 0,
            (Label::Copy(m), Object::Copy { rank }) => m.id == id && m.rank == rank && length == m.length(),
            (Label::Parity { set, manifests }, Object::Parity { layout, set: number, member }) => {
                let members = manifests.iter().map(|m| (m.id, m.rank)).eq(set.members.iter().map(|&rank| (id, rank)));
                let bytes = set.shape().map(|shape| shape.parities() as u64 * set.chunk);
                set.layout == layout
                    && set.set == number
                    && (member as usize) < set.members.len()
                    && members
                    && bytes == Some(length)
            }
            _ => false,
        };
        if !fits {
            return damaged("its label is not that of its name");
        }
        if let Label::Piece(manifest) = &label {
            let folder = self.piece_folder(job, id, manifest.rank);
            for file in &manifest.files {
                let at = folder.join(&file.name);
                if !self.files.length(&at).is_ok_and(|length| length == file.length) {
                    return Err(Unusable::Damaged { path: at.display().to_string(), what: "its length is wrong" });
                }
            }
        }
        Ok(label)
    }

    /// The label of an object, all of whose bytes were read and are as they were written.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn verify(&self, job: &Job, id: CheckpointId, object: Object) -> Result<Label, Unusable> {
        let label = self.label(job, id, object)?;
        let damaged = |path: &Path| Unusable::Damaged { path: path.display().to_string(), what: "its hash is wrong" };
        if let Label::Piece(manifest) = &label {
            let folder = self.piece_folder(job, id, manifest.rank);
            for file in &manifest.files {
                let at = folder.join(&file.name);
                if self.hash(&at)? != (file.length, file.hash.0) {
                    return Err(damaged(&at));
                }
            }
            return Ok(label);
        }
        let path = self.path(job, id, object);
        let (_, length, hash) = self.open(&path)?;
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < length {
            let mut bytes = vec![0; PART.min((length - offset) as usize)];
            let read = self.files.read(&path, offset, &mut bytes);
            let count = read.map_err(|error| Unusable::Io { path: path.display().to_string(), error })?;
            if count == 0 {
                return Err(damaged(&path));
            }
            hasher.update(&bytes[..count]);
            offset += count as u64;
        }
        if hasher.finalize() == hash { Ok(label) } else { Err(damaged(&path)) }
    }

    /// Bytes of an object, less than asked for only at the end of them.
    ///
    /// # Errors
    /// [`Unusable`]; that a bit is wrong is not seen here.
    pub fn read(
        &self,
        job: &Job,
        id: CheckpointId,
        object: Object,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, Unusable> {
        let path = self.path(job, id, object);
        let part = |path: &Path, offset: u64, length: u64, into: &mut Vec<u8>| {
            let begin = into.len();
            into.resize(begin + length as usize, 0);
            match self.files.read(path, offset, &mut into[begin..]) {
                Ok(count) if count as u64 == length => Ok(()),
                Ok(_) => Err(Unusable::Damaged { path: path.display().to_string(), what: "it is too short" }),
                Err(error) => Err(Unusable::Io { path: path.display().to_string(), error }),
            }
        };
        let (label, total, _) = self.open(&path)?;
        let mut bytes = Vec::new();
        if let Label::Piece(manifest) = &label {
            let folder = self.piece_folder(job, id, manifest.rank);
            for (file, range) in manifest.locate(offset..offset.saturating_add(length)) {
                part(&folder.join(&file.name), range.start, range.end - range.start, &mut bytes)?;
            }
        } else {
            part(&path, offset, length.min(total.saturating_sub(offset)), &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Makes a rank's piece anew from the bytes that `more` gives, which must be those that the manifest says.
    ///
    /// # Errors
    /// What `more` or the system says, or that the bytes are others; then there is no such piece.
    pub fn restore(
        &self,
        job: &Job,
        manifest: &Manifest,
        mut more: impl FnMut() -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let (id, rank) = (manifest.id, manifest.rank);
        self.remove_object(job, id, Object::Piece { rank })?;
        let folder = self.piece_folder(job, id, rank);
        let mut waiting: Vec<u8> = Vec::new();
        for file in &manifest.files {
            // The manifest may have come from another node, and no name leads out of the folder.
            if file.name.is_empty() || file.name.starts_with('.') || file.name.contains('/') {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{:?} is no file's name", file.name)));
            }
            let path = folder.join(&file.name);
            self.files.create(&path)?;
            let mut hasher = blake3::Hasher::new();
            let mut missing = file.length as usize;
            while missing > 0 {
                if waiting.is_empty() {
                    waiting = more()?;
                    if waiting.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                let rest = waiting.split_off(missing.min(waiting.len()));
                hasher.update(&waiting);
                self.files.append(&path, &waiting)?;
                missing -= waiting.len();
                waiting = rest;
            }
            if hasher.finalize() != file.hash.0 {
                let text = format!("what was rebuilt of {} is damaged", file.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.files.sync(&path)?;
        }
        if !manifest.files.is_empty() {
            self.files.sync_folder(&folder)?;
        }
        self.write(job, id, Object::Piece { rank }, &Label::Piece(manifest.clone()), || Ok(Vec::new()))
    }

    fn remove_object(&self, job: &Job, id: CheckpointId, object: Object) -> io::Result<()> {
        let path = self.path(job, id, object);
        self.files.remove(&path)?;
        if let Object::Piece { rank } = object {
            self.files.remove(&self.piece_folder(job, id, rank))?;
        }
        Ok(())
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, job: &Job, id: CheckpointId) -> io::Result<()> {
        for object in self.objects(job, id)? {
            self.files.remove(&self.path(job, id, object))?;
        }
        self.files.remove(&self.folder(job, id))
    }

    /// Removes all of a job.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget(&self, job: &Job) -> io::Result<()> {
        for id in self.checkpoints(job)? {
            self.remove(job, id)?;
        }
        self.files.remove(&self.job_folder(job))
    }
}
