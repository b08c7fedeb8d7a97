//! Making copies and parity of pieces, and pieces of these, part by part.

use std::io;

use crate::code::{BLOCK, Shape};
use crate::files::Files;
use crate::id::{CheckpointId, Job, Object};
use crate::manifest::{Label, Manifest, StripeSet};
use crate::recovery::{Place, Source};
use crate::store::Store;

/// Bytes that are fetched at once.
const PART: u64 = 1 << 20;

/// Reads objects wherever they are.
pub trait Fetch {
    /// Bytes of an object, less than asked for only at its end.
    ///
    /// # Errors
    /// If its keeper does not answer, or has it no more.
    fn fetch(&self, job: &Job, id: CheckpointId, place: &Place, offset: u64, length: u64) -> io::Result<Vec<u8>>;

    /// Lets an object's keeper compare all its bytes with their hashes.
    ///
    /// # Errors
    /// If its keeper does not answer, or it is not as it was written.
    fn verify(&self, job: &Job, id: CheckpointId, place: &Place) -> io::Result<()>;
}

/// Whether there already is what is to be written. It is not written again: what it would be made from may have been damaged
/// since, and the new one would take the place of one that can make that good.
fn is_there<F: Files>(store: &Store<F>, job: &Job, id: CheckpointId, object: Object, label: &Label) -> bool {
    store.verify(job, id, object).is_ok_and(|stored| stored == *label)
}

/// Gives an object's bytes in parts.
fn parts<'a>(
    fetch: &'a dyn Fetch,
    job: &'a Job,
    id: CheckpointId,
    place: &'a Place,
) -> impl FnMut() -> io::Result<Vec<u8>> + 'a {
    let mut offset = 0;
    move || {
        let bytes = fetch.fetch(job, id, place, offset, PART)?;
        offset += bytes.len() as u64;
        Ok(bytes)
    }
}

/// Whether it says that bytes came that are not the piece's.
fn changed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} changed under way"))
}

/// Stores a copy of a rank's piece.
///
/// # Errors
/// If it cannot be read or written, or is not what the manifest says; then there is no copy.
pub fn copy<F: Files>(
    store: &Store<F>,
    fetch: &dyn Fetch,
    job: &Job,
    manifest: &Manifest,
    from: &Place,
) -> io::Result<()> {
    let object = Object::Copy { rank: manifest.rank };
    let label = Label::Copy(manifest.clone());
    if is_there(store, job, manifest.id, object, &label) {
        return Ok(());
    }
    let mut more = parts(fetch, job, manifest.id, from);
    let mut check = Check::new(manifest);
    store.write(job, manifest.id, object, &label, || {
        let bytes = more()?;
        if bytes.is_empty() {
            check.end()?
        } else {
            check.more(&bytes)?
        }
        Ok(bytes)
    })
}

/// Follows the bytes of a piece and compares the files' hashes.
struct Check<'a> {
    manifest: &'a Manifest,
    file: usize,
    left: u64,
    hasher: blake3::Hasher,
}

impl<'a> Check<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        let left = manifest.files.first().map_or(0, |file| file.length);
        Self { manifest, file: 0, left, hasher: blake3::Hasher::new() }
    }

    fn more(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.pass_whole_files()?;
            if self.file == self.manifest.files.len() {
                return Err(changed("a piece"));
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.left as usize));
            self.hasher.update(now);
            self.left -= now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn pass_whole_files(&mut self) -> io::Result<()> {
        while let Some(file) = self.manifest.files.get(self.file).filter(|_| self.left == 0) {
            if self.hasher.finalize() != file.hash.0 {
                return Err(changed(&file.name));
            }
            self.hasher.reset();
            self.file += 1;
            self.left = self.manifest.files.get(self.file).map_or(0, |file| file.length);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.pass_whole_files()?;
        if self.file == self.manifest.files.len() { Ok(()) } else { Err(changed("a piece")) }
    }
}

/// One block of a shard, zeros behind the piece's end.
fn shard(
    fetch: &dyn Fetch,
    job: &Job,
    id: CheckpointId,
    place: &Place,
    offset: u64,
    length: u64,
) -> io::Result<Vec<u8>> {
    let mut bytes = fetch.fetch(job, id, place, offset, length)?;
    bytes.resize(length as usize, 0);
    Ok(bytes)
}

/// The blocks of a chunk: offset and length.
fn blocks(chunk: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..chunk.div_ceil(BLOCK)).map(move |at| (at * BLOCK, BLOCK.min(chunk - at * BLOCK)))
}

/// Stores a member's parity of a group; `pieces` says where the members' pieces are.
///
/// # Errors
/// If they cannot be read, or are not as they were written, or the parity not be written; then there is none.
pub fn parity<F: Files>(
    store: &Store<F>,
    fetch: &dyn Fetch,
    job: &Job,
    set: &StripeSet,
    member: usize,
    manifests: &[Manifest],
    pieces: &[Place],
) -> io::Result<()> {
    let shape = set.shape().ok_or_else(|| io::Error::other("a group without data"))?;
    let id = manifests[0].id;
    let object = Object::Parity { layout: set.layout, set: set.set, member: member as u32 };
    let label = Label::Parity { set: set.clone(), manifests: manifests.to_vec() };
    if is_there(store, job, id, object, &label) {
        return Ok(());
    }
    let mut work = (0..shape.parities()).flat_map(|row| blocks(set.chunk).map(move |block| (row, block)));
    store.write(job, id, object, &label, || {
        let Some((row, (offset, length))) = work.next() else {
            // A chunk has no hash of its own. Pieces that are whole now were whole when their chunks were read.
            let mut others = pieces.iter().enumerate().filter(|&(at, _)| at != member);
            others.try_for_each(|(_, piece)| fetch.verify(job, id, piece))?;
            return Ok(Vec::new());
        };
        let shards = shape.stripe(shape.stripe_of_parity(member, row));
        let read = |s: &crate::code::Shard| {
            shard(fetch, job, id, &pieces[s.member], s.chunk as u64 * set.chunk + offset, length)
        };
        let data = shards[..shape.data()].iter().map(read).collect::<io::Result<Vec<_>>>()?;
        Ok(shape.parity(row, &data))
    })
}

/// Makes a rank's piece in `store` from what there is.
///
/// # Errors
/// If it cannot be read or written, or is damaged; then there is no such piece.
pub fn restore<F: Files>(
    store: &Store<F>,
    fetch: &dyn Fetch,
    job: &Job,
    manifest: &Manifest,
    source: &Source,
) -> io::Result<()> {
    match source {
        Source::Whole(places) => {
            let mut tried = Err(io::ErrorKind::NotFound.into());
            for place in places {
                tried = store.restore(job, manifest, parts(fetch, job, manifest.id, place));
                if tried.is_ok() {
                    break;
                }
            }
            tried
        }
        Source::Rebuild { set, member, pieces, parity } => {
            let shape = set.shape().ok_or_else(|| io::Error::other("a group without data"))?;
            let rebuild = Rebuild { fetch, job, id: manifest.id, set, shape, member: *member, pieces, parity };
            let mut work = (0..shape.data()).flat_map(|chunk| blocks(set.chunk).map(move |block| (chunk, block)));
            store.restore(job, manifest, || match work.next() {
                None => Ok(Vec::new()),
                Some((chunk, (offset, length))) => rebuild.block(chunk, offset, length),
            })
        }
    }
}

struct Rebuild<'a> {
    fetch: &'a dyn Fetch,
    job: &'a Job,
    id: CheckpointId,
    set: &'a StripeSet,
    shape: Shape,
    member: usize,
    pieces: &'a [Option<Place>],
    parity: &'a [Option<Place>],
}

impl Rebuild<'_> {
    /// A block of a chunk of the lost piece, from as many shards as are needed.
    fn block(&self, chunk: usize, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let stripe = self.shape.stripe(self.shape.stripe_of_data(self.member, chunk));
        let mut shards = Vec::new();
        let mut found = 0;
        for s in stripe {
            let place = if s.is_parity { &self.parity[s.member] } else { &self.pieces[s.member] };
            let at = s.chunk as u64 * self.set.chunk + offset;
            let bytes = match place {
                Some(place) if found < self.shape.data() => {
                    found += 1;
                    Some(shard(self.fetch, self.job, self.id, place, at, length)?)
                }
                _ => None,
            };
            shards.push(bytes);
        }
        self.shape.recover(chunk, shards).map_err(io::Error::other)
    }
}
