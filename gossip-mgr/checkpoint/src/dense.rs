//! Checkpoints of memory: compressed, and without the blocks that an earlier checkpoint has.
//!
//! A block may be taken from an earlier checkpoint only if that is as safe as this one is to be, and is kept as long; both
//! are the session's promise. The chain is cut after some checkpoints, as each link must survive for the last to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::comm::Comm;
use crate::id::CheckpointId;
use crate::manifest::Hash;
use crate::session::{Session, Trouble};

const BLOCK: usize = 64 << 10;
/// Checkpoints that one may refer to.
const LONGEST_CHAIN: usize = 7;
/// Zstandard's fastest ordinary level: the program waits for it.
const COMPRESSION: i32 = 1;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Block {
    hash: Hash,
    /// In whose file.
    at: CheckpointId,
    offset: u64,
    /// Compressed.
    length: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    /// Name, bytes and blocks of each region.
    regions: Vec<(i32, u64, Vec<Block>)>,
}

struct Past {
    needs: Vec<CheckpointId>,
    blocks: HashMap<blake3::Hash, Block>,
}

/// What was written so far.
#[derive(Default)]
pub struct Dense {
    past: BTreeMap<CheckpointId, Past>,
    written: u64,
}

fn file_name(rank: u32) -> String {
    format!("dense.{rank}")
}

impl Dense {
    /// Writes a checkpoint of these regions.
    ///
    /// # Errors
    /// As [`Session::complete_output`].
    pub fn checkpoint<C: Comm>(&mut self, session: &mut Session<C>, regions: &[(i32, &[u8])]) -> Result<(), Trouble> {
        session.start_output(None, false)?;
        let Some((id, level)) = session.writing() else { return session.complete_output(false) };
        let base = session.base(level).and_then(|base| Some((base, self.past.get(&base)?)));
        let base = base.filter(|(_, past)| past.needs.len() < LONGEST_CHAIN);
        let (mut blocks, mut needs) = (HashMap::new(), Vec::new());
        if let Some((base, past)) = base {
            blocks.clone_from(&past.blocks);
            needs.clone_from(&past.needs);
            needs.push(base);
        }
        session.refer_to(needs.clone());
        let (bytes, used) = encode(id, regions, &mut blocks);
        let path = session.route(&file_name(session.rank()));
        let done = path.and_then(|path| std::fs::write(path, &bytes));
        session.complete_output(done.is_ok())?;
        self.written = bytes.len() as u64;
        self.past.insert(id, Past { needs, blocks: used });
        while self.past.len() > 64 {
            self.past.pop_first();
        }
        Ok(())
    }

    /// Bytes of this rank's last checkpoint as it was written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Fills the regions from the newest checkpoint that has them; whether there is one.
    ///
    /// # Errors
    /// What hinders the search for another one.
    pub fn restart<C: Comm>(
        &mut self,
        session: &mut Session<C>,
        regions: &mut [(i32, &mut [u8])],
    ) -> Result<bool, Trouble> {
        while session.have_restart().is_some() {
            session.start_restart()?;
            let read = read(session, regions);
            match session.complete_restart(read.is_ok()) {
                Ok(()) => return Ok(true),
                // The next older one is offered.
                Err(Trouble::Rank { .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(false)
    }
}

/// The file's bytes, and its blocks.
fn encode(
    id: CheckpointId,
    regions: &[(i32, &[u8])],
    known: &mut HashMap<blake3::Hash, Block>,
) -> (Vec<u8>, HashMap<blake3::Hash, Block>) {
    let (mut bytes, mut used) = (Vec::new(), HashMap::new());
    let mut index = Index { regions: Vec::new() };
    for (name, region) in regions {
        let mut blocks = Vec::new();
        for block in region.chunks(BLOCK) {
            let hash = blake3::hash(block);
            let entry = *known.entry(hash).or_insert_with(|| {
                let packed = zstd::bulk::compress(block, COMPRESSION).expect("memory is there for a block");
                let offset = bytes.len() as u64;
                bytes.extend(&packed);
                Block { hash: Hash(hash), at: id, offset, length: packed.len() as u32 }
            });
            used.insert(hash, entry);
            blocks.push(entry);
        }
        index.regions.push((*name, region.len() as u64, blocks));
    }
    let end = serde_json::to_vec(&index).expect("plain data");
    let length = end.len() as u64;
    bytes.extend(end);
    bytes.extend(length.to_le_bytes());
    (bytes, used)
}

fn read<C: Comm>(session: &Session<C>, regions: &mut [(i32, &mut [u8])]) -> io::Result<()> {
    let name = file_name(session.rank());
    let folders: HashMap<CheckpointId, PathBuf> = session.pieces().into_iter().collect();
    let load = |id: &CheckpointId| match folders.get(id) {
        Some(folder) => std::fs::read(folder.join(&name)),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let newest = session.pieces().first().map(|(id, _)| *id).ok_or(io::ErrorKind::NotFound)?;
    let mut files = HashMap::from([(newest, load(&newest)?)]);
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let short = || wrong("the file is too short".into());
    let file = &files[&newest];
    let (rest, length) = file.split_last_chunk::<8>().ok_or_else(short)?;
    let begin = rest.len().checked_sub(u64::from_le_bytes(*length) as usize).ok_or_else(short)?;
    let index: Index = serde_json::from_slice(&rest[begin..])?;
    for (name, memory) in regions {
        let found = index.regions.iter().find(|(known, _, _)| known == name);
        let (_, length, blocks) = found.ok_or_else(|| wrong(format!("it has no region {name}")))?;
        if *length != memory.len() as u64 {
            return Err(wrong(format!("region {name} has {} bytes, and had {length}", memory.len())));
        }
        for (block, memory) in blocks.iter().zip(memory.chunks_mut(BLOCK)) {
            let file = match files.entry(block.at) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(load(&block.at)?),
            };
            let packed = file.get(block.offset as usize..).and_then(|rest| rest.get(..block.length as usize));
            let count = zstd::bulk::decompress_to_buffer(packed.ok_or_else(short)?, memory)?;
            if count != memory.len() || blake3::hash(memory) != block.hash.0 {
                return Err(wrong(format!("a block of region {name} is damaged")));
            }
        }
    }
    Ok(())
}
