//! What a stored object says about itself.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::code::Shape;
use crate::id::{CheckpointId, Level};

/// A BLAKE3 hash, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub blake3::Hash);

impl TryFrom<String> for Hash {
    type Error = blake3::HexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        blake3::Hash::from_hex(text).map(Self)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.0.to_hex().to_string()
    }
}

/// A file of a piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name in the piece's folder.
    pub name: String,
    /// What the program called it.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// Of its contents.
    pub hash: Hash,
}

/// What a rank wrote at one checkpoint. A piece's bytes are its files', one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of which checkpoint.
    pub id: CheckpointId,
    /// What the program calls the checkpoint.
    pub name: String,
    /// Which program it is.
    pub program: String,
    /// Whose piece.
    pub rank: u32,
    /// How many ranks there are.
    pub ranks: u32,
    /// At which level besides the local one it was to be stored.
    pub level: Level,
    /// Seconds since 1970 by the node's clock: for people, nothing depends on it.
    pub written_at: u64,
    /// Earlier checkpoints whose blocks it refers to.
    pub needs: Vec<CheckpointId>,
    /// Its files.
    pub files: Vec<File>,
}

impl Manifest {
    /// Bytes of the piece.
    pub fn length(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// Which files, and where in them, `range` of the piece is.
    pub fn locate(&self, range: Range<u64>) -> Vec<(&File, Range<u64>)> {
        let mut begin = 0;
        let mut places = Vec::new();
        for file in &self.files {
            let end = begin + file.length;
            let (from, to) = (range.start.max(begin), range.end.min(end));
            if from < to {
                places.push((file, from - begin..to - begin));
            }
            begin = end;
        }
        places
    }
}

/// A group of ranks and how its parity is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeSet {
    /// Which division into groups.
    pub layout: u32,
    /// Which group.
    pub set: u32,
    /// How many members may be lost.
    pub parities: usize,
    /// Length of a chunk.
    pub chunk: u64,
    /// Its ranks.
    pub members: Vec<u32>,
}

impl StripeSet {
    /// The shape of its code.
    pub fn shape(&self) -> Option<Shape> {
        Shape::new(self.members.len(), self.parities)
    }
}

/// What is written behind an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The bytes are in files beside it.
    Piece(Manifest),
    /// The bytes of a piece.
    Copy(Manifest),
    /// A member's share of the parity.
    Parity {
        /// Of which group.
        set: StripeSet,
        /// Of all members' pieces: a rebuilt piece must be known when it is seen.
        manifests: Vec<Manifest>,
    },
}
