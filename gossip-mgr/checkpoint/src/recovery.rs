//! What can be restarted from what is left, and how each rank's piece is had.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{CheckpointId, Level, Name, Object};
use crate::manifest::{Label, Manifest, StripeSet};

/// Where an object is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Keeper {
    /// On a node.
    Node(Name),
    /// On the storage that all share.
    Shared,
}

/// An object that some keeper has, undamaged as far as is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Who has it.
    pub keeper: Keeper,
    /// What.
    pub object: Object,
    /// What it says of itself.
    pub label: Label,
    /// Of which checkpoint.
    pub id: CheckpointId,
}

/// An object somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Who has it.
    pub keeper: Keeper,
    /// What.
    pub object: Object,
}

/// How a rank's piece is had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// All of it is there; the nearest first.
    Whole(Vec<Place>),
    /// From the group's other pieces and parity.
    Rebuild {
        /// The group.
        set: StripeSet,
        /// Which member is to be rebuilt.
        member: usize,
        /// Where each member's piece is.
        pieces: Vec<Option<Place>>,
        /// Where each member's parity is.
        parity: Vec<Option<Place>>,
    },
}

/// A checkpoint from which the job can be restarted.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub id: CheckpointId,
    /// For each rank what the piece is, and how it is had.
    pub pieces: Vec<(Manifest, Source)>,
}

impl Candidate {
    /// What all ranks' manifests say: name, program, level, needs.
    pub fn manifest(&self) -> &Manifest {
        &self.pieces[0].0
    }
}

/// All of one checkpoint that is left.
#[derive(Default)]
struct Rest<'a> {
    manifests: BTreeMap<u32, &'a Manifest>,
    whole: BTreeMap<u32, Vec<Place>>,
    /// Groups with the places of their members' parities.
    sets: Vec<(&'a StripeSet, BTreeMap<u32, Place>)>,
}

impl<'a> Rest<'a> {
    fn add(&mut self, held: &'a Held) {
        let place = Place { keeper: held.keeper.clone(), object: held.object };
        match (&held.label, held.object) {
            (Label::Piece(manifest) | Label::Copy(manifest), _) => {
                self.manifests.insert(manifest.rank, manifest);
                let places = self.whole.entry(manifest.rank).or_default();
                places.push(place);
                // A piece is where the rank ran, and shared storage is the slowest.
                places
                    .sort_by_key(|place| (place.keeper == Keeper::Shared, matches!(place.object, Object::Copy { .. })));
            }
            (Label::Parity { set, manifests }, Object::Parity { member, .. }) => {
                for manifest in manifests {
                    self.manifests.entry(manifest.rank).or_insert(manifest);
                }
                match self.sets.iter_mut().find(|(known, _)| *known == set) {
                    Some((_, parity)) => {
                        parity.insert(member, place);
                    }
                    None => self.sets.push((set, BTreeMap::from([(member, place)]))),
                }
            }
            (Label::Parity { .. }, _) => {}
        }
    }

    fn source(&self, rank: u32) -> Option<Source> {
        if let Some(places) = self.whole.get(&rank) {
            return Some(Source::Whole(places.clone()));
        }
        self.sets.iter().find_map(|(set, parity)| self.rebuilt(rank, set, parity))
    }

    fn rebuilt(&self, rank: u32, set: &StripeSet, parity: &BTreeMap<u32, Place>) -> Option<Source> {
        let member = set.members.iter().position(|&member| member == rank)?;
        let shape = set.shape()?;
        let pieces: Vec<Option<Place>> =
            set.members.iter().map(|rank| self.whole.get(rank).map(|places| places[0].clone())).collect();
        let parity: Vec<Option<Place>> = (0..set.members.len() as u32).map(|m| parity.get(&m).cloned()).collect();
        let enough = (0..shape.data()).all(|chunk| {
            let shards = shape.stripe(shape.stripe_of_data(member, chunk));
            let is_there = |s: &&crate::code::Shard| match s.is_parity {
                true => parity[s.member].is_some(),
                false => pieces[s.member].is_some(),
            };
            shards.iter().filter(is_there).count() >= shape.data()
        });
        enough.then(|| Source::Rebuild { set: set.clone(), member, pieces, parity })
    }

    fn candidate(&self, id: CheckpointId) -> Option<Candidate> {
        let ranks = self.manifests.first_key_value()?.1.ranks;
        let piece = |rank| Some(((*self.manifests.get(&rank)?).clone(), self.source(rank)?));
        let pieces = (0..ranks).map(piece).collect::<Option<Vec<_>>>()?;
        let first = &pieces.first()?.0;
        let same = |m: &Manifest| {
            (m.ranks, &m.program, &m.name, &m.needs) == (first.ranks, &first.program, &first.name, &first.needs)
        };
        pieces.iter().all(|(manifest, _)| same(manifest)).then_some(Candidate { id, pieces })
    }
}

/// The checkpoints of a job that can be restarted from, the newest first.
pub fn candidates<'a>(held: impl IntoIterator<Item = &'a Held>) -> Vec<Candidate> {
    let mut rests: BTreeMap<CheckpointId, Rest> = BTreeMap::new();
    for held in held {
        rests.entry(held.id).or_default().add(held);
    }
    let whole: Vec<Candidate> = rests.iter().rev().filter_map(|(&id, rest)| rest.candidate(id)).collect();
    let ids: BTreeSet<CheckpointId> = whole.iter().map(|candidate| candidate.id).collect();
    whole.into_iter().filter(|c| c.manifest().needs.iter().all(|need| ids.contains(need))).collect()
}

/// Whether checkpoint `id` could still be restarted from without the nodes in `lost`.
pub fn survives(held: &[Held], id: CheckpointId, lost: &BTreeSet<&Name>) -> bool {
    let is_left = |held: &&Held| match &held.keeper {
        Keeper::Node(name) => !lost.contains(name),
        Keeper::Shared => true,
    };
    candidates(held.iter().filter(is_left)).iter().any(|candidate| candidate.id == id)
}

/// Any checkpoints but the newest complete one of each level, and those that are not complete yet, may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub id: CheckpointId,
    /// At which level it is, or is to be.
    pub level: Level,
    /// Whether it is at that level.
    pub is_complete: bool,
    /// Those whose blocks it refers to.
    pub needs: Vec<CheckpointId>,
}

/// Which of `all`, in the order in which they were made, are to be kept.
pub fn to_keep(all: &[Kept]) -> BTreeSet<CheckpointId> {
    let mut keep = BTreeSet::new();
    // Each was complete on its nodes before it came onto the list, so the newest is the newest local one.
    keep.extend(all.last().map(|newest| newest.id));
    for level in Level::ALL {
        for kept in all.iter().rev().filter(|kept| kept.level == level) {
            keep.insert(kept.id);
            if kept.is_complete {
                break;
            }
        }
    }
    let needs = all.iter().filter(|kept| keep.contains(&kept.id)).flat_map(|kept| kept.needs.clone());
    let needs: Vec<CheckpointId> = needs.collect();
    keep.extend(needs);
    keep
}

/// A node on which ranks may run.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its name.
    pub node: Name,
    /// How many ranks it takes.
    pub slots: usize,
}

/// On which node each rank runs: where its piece is, else where its copy is, else where there is most room.
///
/// None if there is not enough room.
pub fn place(ranks: usize, rooms: &[Room], candidate: Option<&Candidate>) -> Option<Vec<Name>> {
    let mut free: Vec<usize> = rooms.iter().map(|room| room.slots).collect();
    let mut placed: Vec<Option<usize>> = vec![None; ranks];
    for only_pieces in [true, false] {
        for (rank, (_, source)) in candidate.iter().flat_map(|c| c.pieces.iter().enumerate()).take(ranks) {
            let Source::Whole(places) = source else { continue };
            let has = |place: &Place, room: &Room| {
                place.keeper == Keeper::Node(room.node.clone())
                    && (!only_pieces || matches!(place.object, Object::Piece { .. }))
            };
            let holder = (0..rooms.len()).find(|&at| free[at] > 0 && places.iter().any(|place| has(place, &rooms[at])));
            if let (None, Some(at)) = (placed[rank], holder) {
                placed[rank] = Some(at);
                free[at] -= 1;
            }
        }
    }
    let place = |rank: Option<usize>| {
        let at = rank.or_else(|| {
            // The first of those with most room.
            let at = (0..rooms.len()).rev().max_by_key(|&at| free[at]).filter(|&at| free[at] > 0)?;
            free[at] -= 1;
            Some(at)
        })?;
        Some(rooms[at].node.clone())
    };
    placed.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> CheckpointId {
        CheckpointId { attempt: 1, number, nonce: 0 }
    }

    fn kept(number: u32, level: Level, is_complete: bool) -> Kept {
        Kept { id: id(number), level, is_complete, needs: Vec::new() }
    }

    fn numbers(all: &[Kept]) -> Vec<u32> {
        to_keep(all).into_iter().map(|id| id.number).collect()
    }

    #[test]
    fn the_newest_complete_checkpoint_of_each_level_is_kept() {
        use Level::{Local, Partner, Xor};
        let all = [
            kept(1, Partner, true),
            kept(2, Xor, true),
            kept(3, Local, true),
            kept(4, Xor, true),
            kept(5, Local, true),
        ];
        assert_eq!(numbers(&all), [1, 4, 5]);
        // While the next one is written the older one stays, and one that failed goes with the next success.
        let all = [kept(1, Xor, true), kept(2, Xor, false), kept(3, Xor, false)];
        assert_eq!(numbers(&all), [1, 2, 3]);
        let all = [kept(1, Xor, true), kept(2, Xor, false), kept(3, Xor, true)];
        assert_eq!(numbers(&all), [3]);
    }

    #[test]
    fn what_a_kept_checkpoint_refers_to_is_kept() {
        let mut all = [kept(1, Level::Local, true), kept(2, Level::Local, true), kept(3, Level::Local, true)];
        all[2].needs = vec![id(1)];
        assert_eq!(numbers(&all), [1, 3]);
    }

    #[test]
    fn ranks_go_where_their_data_is_and_then_where_room_is() {
        let name = |at: usize| -> Name { format!("n{at}").parse().unwrap() };
        let room = |at, slots| Room { node: name(at), slots };
        let manifest = |rank| Manifest {
            id: id(1),
            name: "c".into(),
            program: "p".into(),
            rank,
            ranks: 3,
            level: Level::Partner,
            written_at: 0,
            needs: Vec::new(),
            files: Vec::new(),
        };
        let held = |keeper: usize, object| {
            let rank = match object {
                Object::Piece { rank } | Object::Copy { rank } => rank,
                Object::Parity { .. } => unreachable!(),
            };
            let label = match object {
                Object::Copy { .. } => Label::Copy(manifest(rank)),
                _ => Label::Piece(manifest(rank)),
            };
            Held { keeper: Keeper::Node(name(keeper)), object, label, id: id(1) }
        };
        let left = [
            held(2, Object::Piece { rank: 0 }),
            held(0, Object::Piece { rank: 2 }),
            held(0, Object::Copy { rank: 1 }),
            held(3, Object::Copy { rank: 0 }),
        ];
        let candidates = candidates(&left);
        let names = |rooms: &[Room]| {
            let placed = place(3, rooms, candidates.first())?;
            Some(placed.iter().map(|node| node.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(&[room(0, 2), room(2, 1), room(5, 1)]).unwrap(), ["n2", "n0", "n0"]);
        assert_eq!(names(&[room(0, 1), room(2, 1), room(5, 1)]).unwrap(), ["n2", "n5", "n0"]);
        assert_eq!(names(&[room(0, 1), room(3, 2)]).unwrap(), ["n3", "n3", "n0"]);
        assert_eq!(names(&[room(0, 1), room(2, 1)]), None);
    }
}
