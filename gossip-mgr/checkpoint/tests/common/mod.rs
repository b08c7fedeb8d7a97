//! A cluster of stores in memory, and checkpoints on it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io;

use gossip_checkpoint::files::{Files, faulty::Memory};
use gossip_checkpoint::id::{CheckpointId, Job, Level, Name, Object};
use gossip_checkpoint::manifest::{Label, Manifest, StripeSet};
use gossip_checkpoint::recovery::{Held, Keeper, Place};
use gossip_checkpoint::store::Store;
use gossip_checkpoint::transfer::{self, Fetch};

pub fn job() -> Job {
    Job { owner: 1000, name: "heat".parse().unwrap() }
}

pub fn id(number: u32) -> CheckpointId {
    CheckpointId { attempt: 1, number, nonce: 7 }
}

pub fn node(at: usize) -> Name {
    format!("n{at}").parse().unwrap()
}

/// What a rank writes: of different length for each, in two files, one of them empty for some.
pub fn content(rank: u32, number: u32) -> [Vec<u8>; 2] {
    let byte = |i: usize| (i * 13 + i / 251 + rank as usize * 71 + number as usize * 5) as u8;
    let first = (0..3_000 + 577 * rank as usize).map(byte).collect();
    let second = (0..(rank as usize % 3) * 100).map(byte).collect();
    [first, second]
}

pub struct Cluster {
    pub stores: Vec<Store<Memory>>,
    pub down: Vec<bool>,
}

impl Fetch for Cluster {
    fn fetch(&self, job: &Job, id: CheckpointId, place: &Place, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let Keeper::Node(name) = &place.keeper else { return Err(io::ErrorKind::NotFound.into()) };
        let at: usize = name.as_str()[1..].parse().unwrap();
        if self.down[at] {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.stores[at].read(job, id, place.object, offset, length).map_err(io::Error::other)
    }

    fn verify(&self, job: &Job, id: CheckpointId, place: &Place) -> io::Result<()> {
        let Keeper::Node(name) = &place.keeper else { return Err(io::ErrorKind::NotFound.into()) };
        let at: usize = name.as_str()[1..].parse().unwrap();
        match self.down[at] {
            true => Err(io::ErrorKind::ConnectionRefused.into()),
            false => self.stores[at].verify(job, id, place.object).map(drop).map_err(io::Error::other),
        }
    }
}

pub fn write_piece(store: &Store<Memory>, rank: u32, ranks: u32, number: u32) -> io::Result<Manifest> {
    let (job, id) = (job(), id(number));
    let names = ["a", "b"].map(|name| (format!("out/{name}"), name.to_owned()));
    for ((_, name), bytes) in names.iter().zip(content(rank, number)) {
        let path = store.piece_folder(&job, id, rank).join(name);
        store.files().create(&path)?;
        store.files().append(&path, &bytes)?;
    }
    let files = store.gather(&job, id, rank, &names).map_err(io::Error::other)?;
    let manifest = Manifest {
        id,
        name: format!("step{number}"),
        program: "heat".into(),
        rank,
        ranks,
        level: Level::Xor,
        written_at: 0,
        needs: Vec::new(),
        files,
    };
    store.write(&job, id, Object::Piece { rank }, &Label::Piece(manifest.clone()), || Ok(Vec::new()))?;
    Ok(manifest)
}

impl Cluster {
    pub fn new(nodes: usize) -> Self {
        let stores = (0..nodes).map(|_| Store::new(Memory::default(), "/store")).collect();
        Self { stores, down: vec![false; nodes] }
    }

    /// A checkpoint with one group over all nodes.
    pub fn checkpoint(&self, number: u32, parities: usize) -> Vec<Manifest> {
        let manifests = self.pieces(number);
        self.protect(&manifests, parities).into_iter().collect::<io::Result<()>>().unwrap();
        manifests
    }

    /// Each rank's piece on its node.
    pub fn pieces(&self, number: u32) -> Vec<Manifest> {
        let ranks = self.stores.len() as u32;
        (0..ranks).map(|rank| write_piece(&self.stores[rank as usize], rank, ranks, number).unwrap()).collect()
    }

    /// Parity on all nodes, and what each says.
    pub fn protect(&self, manifests: &[Manifest], parities: usize) -> Vec<io::Result<()>> {
        let ranks = self.stores.len() as u32;
        let longest = manifests.iter().map(Manifest::length).max().unwrap();
        let mut set = StripeSet { layout: 1, set: 0, parities, chunk: 0, members: (0..ranks).collect() };
        set.chunk = set.shape().unwrap().chunk_length(longest);
        let place = |rank| Place { keeper: Keeper::Node(node(rank as usize)), object: Object::Piece { rank } };
        let pieces: Vec<Place> = (0..ranks).map(place).collect();
        let parity = |(member, store)| transfer::parity(store, self, &job(), &set, member, manifests, &pieces);
        self.stores.iter().enumerate().map(parity).collect()
    }

    /// All objects that the nodes that are up have undamaged.
    pub fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for (at, store) in self.stores.iter().enumerate().filter(|&(at, _)| !self.down[at]) {
            for id in store.checkpoints(&job()).unwrap() {
                for object in store.objects(&job(), id).unwrap() {
                    if let Ok(label) = store.verify(&job(), id, object) {
                        held.push(Held { keeper: Keeper::Node(node(at)), object, label, id });
                    }
                }
            }
        }
        held
    }
}

/// Whether the piece that a store has is what the rank wrote.
pub fn is_as_written(store: &Store<Memory>, rank: u32, number: u32) -> bool {
    let whole: Vec<u8> = content(rank, number).concat();
    store.read(&job(), id(number), Object::Piece { rank }, 0, 1 << 30).is_ok_and(|bytes| bytes == whole)
}
