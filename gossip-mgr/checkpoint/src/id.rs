//! Names of jobs, checkpoints, levels and of what is stored for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a job or a node: it is a folder, and a column of a table.
const LONGEST: usize = 64;

/// A name that is safe as the name of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that is no [`Name`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name: 1 to 64 letters, digits, `.`, `-` or `_` are allowed, no `.` first")]
pub struct NoName(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NoName;

    fn try_from(text: String) -> Result<Self, NoName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let fine = !text.is_empty() && text.len() <= LONGEST && !text.starts_with('.') && text.chars().all(allowed);
        if fine { Ok(Self(text)) } else { Err(NoName(text)) }
    }
}

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        text.to_owned().try_into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A job of a user. Users do not see each other's jobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Job {
    /// User number of who runs it.
    pub owner: u32,
    /// Its name, the same after a restart.
    pub name: Name,
}

/// A checkpoint of a job.
///
/// The order is that of the job's life: a later attempt continues from what an earlier one left. The nonce keeps apart
/// two attempts that took the same number because the nodes that knew of the first were away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckpointId {
    /// How often the job had been started.
    pub attempt: u32,
    /// The how manieth checkpoint of the job, counted on through restarts.
    pub number: u32,
    /// Chosen at random by the attempt.
    pub nonce: u32,
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:08x}", self.attempt, self.number, self.nonce)
    }
}

impl FromStr for CheckpointId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let parsed = (|| {
            let attempt = parts.next()?.parse().ok()?;
            let number = parts.next()?.parse().ok()?;
            let nonce = u32::from_str_radix(parts.next()?, 16).ok()?;
            parts.next().is_none().then_some(Self { attempt, number, nonce })
        })();
        // Only one text is the name of a checkpoint, so only one folder is its folder.
        parsed.filter(|id| id.to_string() == text).ok_or_else(|| format!("`{text}` is no checkpoint"))
    }
}

impl TryFrom<String> for CheckpointId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CheckpointId> for String {
    fn from(id: CheckpointId) -> Self {
        id.to_string()
    }
}

/// Where a checkpoint is. Each is on the nodes of its ranks, and may be at one further level. Later ones survive more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// On the node itself alone.
    Local,
    /// Parity over a group of nodes, of which one may be lost.
    Xor,
    /// A copy on another node, another one each turn.
    Partner,
    /// Reed-Solomon parity over a group of nodes, of which several may be lost.
    ReedSolomon,
    /// A copy on storage that all nodes share.
    Shared,
}

impl Level {
    /// All, from the cheapest.
    pub const ALL: [Self; 5] = [Self::Local, Self::Xor, Self::Partner, Self::ReedSolomon, Self::Shared];

    /// Its place in [`Level::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Partner => "partner",
            Self::Xor => "xor",
            Self::ReedSolomon => "reed_solomon",
            Self::Shared => "shared",
        })
    }
}

/// One stored thing of a checkpoint; its text is the name of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Object {
    /// What a rank wrote, as files in a folder beside it.
    Piece {
        /// Whose.
        rank: u32,
    },
    /// All of it in one file, elsewhere.
    Copy {
        /// Whose.
        rank: u32,
    },
    /// A member's share of the parity of a group.
    Parity {
        /// Which division into groups: it changes with the nodes of a job.
        layout: u32,
        /// Which group.
        set: u32,
        /// Which member.
        member: u32,
    },
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Piece { rank } => write!(f, "piece.{rank}"),
            Self::Copy { rank } => write!(f, "copy.{rank}"),
            Self::Parity { layout, set, member } => write!(f, "parity.{layout}.{set}.{member}"),
        }
    }
}

impl FromStr for Object {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok());
        let object = match (parts[0], parts.len()) {
            ("piece", 2) => number(1).map(|rank| Self::Piece { rank }),
            ("copy", 2) => number(1).map(|rank| Self::Copy { rank }),
            ("parity", 4) => (|| Some(Self::Parity { layout: number(1)?, set: number(2)?, member: number(3)? }))(),
            _ => None,
        };
        object.filter(|object| object.to_string() == text).ok_or_else(|| format!("`{text}` is no object"))
    }
}

impl TryFrom<String> for Object {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Object> for String {
    fn from(object: Object) -> Self {
        object.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_that_an_id_shows_is_that_id() {
        let id = CheckpointId { attempt: 2, number: 17, nonce: 0xab };
        assert_eq!(id.to_string(), "2-17-000000ab");
        assert_eq!("2-17-000000ab".parse(), Ok(id));
        for wrong in ["2-17-ab", "02-17-000000ab", "2-17", "2-17-000000ab-", "x", "", "../2-1-00000000"] {
            assert!(wrong.parse::<CheckpointId>().is_err(), "{wrong}");
        }
        for object in ["piece.7", "copy.0", "parity.9.1.2"] {
            assert_eq!(object.parse::<Object>().unwrap().to_string(), object);
        }
        for wrong in ["piece.07", "piece", "piece.7.tmp", "copy.-1", "parity.1.2", ""] {
            assert!(wrong.parse::<Object>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_no_way_out_of_the_folder() {
        for wrong in ["", ".", "..", "../x", "a/b", ".hidden", "a b", &"x".repeat(65)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
        assert_eq!("heat-8_v1.2".parse::<Name>().unwrap().as_str(), "heat-8_v1.2");
    }
}
