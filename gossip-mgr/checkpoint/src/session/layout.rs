//! Who does what for a checkpoint to be at its level.

use crate::agent::wire::{LevelSettings, Task};
use crate::id::{Level, Object};
use crate::manifest::{Manifest, StripeSet};
use crate::recovery::{Keeper, Place};
use crate::topology::{Host, NoPlace, groups, partners};

/// The nodes of a job.
pub struct Layout<'a> {
    /// All nodes of the cluster.
    pub hosts: &'a [Host],
    /// On which each rank is.
    pub of_rank: &'a [usize],
}

impl Layout<'_> {
    /// The nodes with ranks.
    pub fn used(&self) -> Vec<usize> {
        let mut used = self.of_rank.to_vec();
        used.sort_unstable();
        used.dedup();
        used
    }

    fn piece(&self, rank: u32) -> Place {
        let node = self.hosts[self.of_rank[rank as usize]].name.clone();
        Place { keeper: Keeper::Node(node), object: Object::Piece { rank } }
    }

    /// Whether the level can be had at all.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn check(&self, settings: &LevelSettings) -> Result<(), NoPlace> {
        match settings.level {
            Level::Local | Level::Shared => Ok(()),
            Level::Partner => partners(self.hosts, &self.used(), 0).map(drop),
            level => groups(self.hosts, self.of_rank, settings.group, settings.parities, level).map(drop),
        }
    }

    /// What the agent of `node` is to write; `manifests` are those of all ranks.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn tasks(&self, settings: &LevelSettings, manifests: &[Manifest], node: usize) -> Result<Vec<Task>, NoPlace> {
        let manifest = |rank: usize| manifests[rank].clone();
        match settings.level {
            Level::Local => Ok(Vec::new()),
            Level::Shared => {
                let own = (0..manifests.len()).filter(|&rank| self.of_rank[rank] == node);
                Ok(own.map(|rank| Task::Share { manifest: manifest(rank), from: self.piece(rank as u32) }).collect())
            }
            Level::Partner => {
                let used = self.used();
                let partners = partners(self.hosts, &used, manifests[0].id.number)?;
                let keeper = |rank: usize| used.iter().position(|&n| n == self.of_rank[rank]).map(|at| partners[at]);
                let kept = (0..manifests.len()).filter(|&rank| keeper(rank) == Some(node));
                Ok(kept.map(|rank| Task::Copy { manifest: manifest(rank), from: self.piece(rank as u32) }).collect())
            }
            level => {
                let groups = groups(self.hosts, self.of_rank, settings.group, settings.parities, level)?;
                let mut hasher = blake3::Hasher::new();
                hasher.update(format!("{level} {} {groups:?}", settings.parities).as_bytes());
                let layout = u32::from_le_bytes(hasher.finalize().as_bytes()[..4].try_into().expect("four bytes"));
                let mut tasks = Vec::new();
                for (number, members) in groups.into_iter().enumerate() {
                    let own = members.iter().position(|&rank| self.of_rank[rank as usize] == node);
                    let Some(member) = own else { continue };
                    let manifests: Vec<Manifest> = members.iter().map(|&rank| manifest(rank as usize)).collect();
                    let longest = manifests.iter().map(Manifest::length).max().unwrap_or(0);
                    let pieces = members.iter().map(|&rank| self.piece(rank)).collect();
                    let parities = settings.parities;
                    let mut set = StripeSet { layout, set: number as u32, parities, chunk: 0, members };
                    set.chunk = set.shape().map_or(0, |shape| shape.chunk_length(longest));
                    tasks.push(Task::Parity { set, member, manifests, pieces });
                }
                Ok(tasks)
            }
        }
    }
}
