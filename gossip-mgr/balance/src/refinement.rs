//! Smoother borders: each pair of neighbours swaps tasks by the method of Fiduccia and Mattheyses.
//!
//! A pair moves its border tasks one by one, the best first even if it costs, each at most once, and
//! then takes back all after the best moment. What it minimises is the sum of the third powers of
//! the two edge-cuts, not of the edge-cuts: a step of an application takes as long as its slowest
//! part communicates, so the largest cuts must fall first. Tasks away from their home cost a little.
//!
//! A pair reads and changes only what its two parts own. Pairs are coloured so that those of a colour
//! share no part: the distributed form may refine them at the same time with the same result.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Options;
use crate::partition::{Border, Partition};

/// A part's cut counts with this power.
const POWER: i32 = 3;

/// How often a pair may move on without a new best, beside once for each task of its border: enough to
/// shift a whole side by a layer, which pays only once the layer is complete.
const PATIENCE: usize = 4;

/// A task that could change sides. The best is the greatest; of equals the youngest, so that moves
/// go on where the last one was.
#[derive(PartialEq)]
struct Move {
    gain: f64,
    age: u32,
    task: usize,
}

impl Eq for Move {}

impl PartialOrd for Move {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Move {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain.total_cmp(&other.gain).then(self.age.cmp(&other.age))
    }
}

/// What is known of a task while a pair is refined.
#[derive(Clone, Copy)]
enum Known {
    /// Its move with this gain is the valid one among those queued.
    Gain(f64),
    /// It has moved, or is too heavy to.
    Done,
}

/// What all pairs use one after the other: entries of an older round mean nothing.
pub(crate) struct Scratch {
    known: Vec<(u32, Known)>,
    round: u32,
}

impl Scratch {
    pub fn new(tasks: usize) -> Self {
        Self { known: vec![(0, Known::Done); tasks], round: 0 }
    }

    fn get(&self, task: usize) -> Option<Known> {
        let (round, known) = self.known[task];
        (round == self.round).then_some(known)
    }

    fn set(&mut self, task: usize, known: Known) {
        self.known[task] = (self.round, known);
    }
}

/// Refines every border once; returns the number of moves.
pub(crate) fn refine(partition: &mut Partition, options: &Options, scratch: &mut Scratch) -> u64 {
    let borders = partition.borders();
    let mut moved = 0;
    for border in coloured(partition.loads().len(), &borders) {
        moved += Pair::new(partition, border, options, scratch).refine(border);
    }
    moved
}

/// The borders, colour by colour; each takes the first colour that neither of its parts has.
fn coloured(parts: usize, borders: &[Border]) -> Vec<&Border> {
    let mut used: Vec<Vec<bool>> = vec![Vec::new(); parts];
    let mut coloured: Vec<(usize, &Border)> = Vec::with_capacity(borders.len());
    for border in borders {
        let (a, b) = (border.parts.0 as usize, border.parts.1 as usize);
        let free = |part: usize, colour: usize| !used[part].get(colour).is_some_and(|&used| used);
        let mut colour = 0;
        while !(free(a, colour) && free(b, colour)) {
            colour += 1;
        }
        for part in [a, b] {
            if used[part].len() <= colour {
                used[part].resize(colour + 1, false);
            }
            used[part][colour] = true;
        }
        coloured.push((colour, border));
    }
    coloured.sort_by_key(|&(colour, border)| (colour, border.parts));
    coloured.into_iter().map(|(_, border)| border).collect()
}

struct Pair<'p, 'g> {
    partition: &'p mut Partition<'g>,
    scratch: &'p mut Scratch,
    parts: [u32; 2],
    /// Highest load allowed.
    limit: f64,
    /// The unit of cuts: their mean at the start.
    unit: f64,
    /// How much a part's cut weighs as long as it changes little.
    rates: [f64; 2],
    migration_price: f64,
    queues: [BinaryHeap<Move>; 2],
    age: u32,
}

impl<'p, 'g> Pair<'p, 'g> {
    fn new(partition: &'p mut Partition<'g>, border: &Border, options: &Options, scratch: &'p mut Scratch) -> Self {
        scratch.round += 1;
        let parts = [border.parts.0, border.parts.1];
        let cuts = parts.map(|part| partition.cut(part));
        let unit = ((cuts[0] + cuts[1]) / 2.0).max(f64::MIN_POSITIVE);
        Self {
            limit: partition.mean_load() * (1.0 + options.tolerance),
            partition,
            scratch,
            parts,
            unit,
            rates: cuts.map(|cut| (cut / unit).powi(POWER - 1)),
            migration_price: options.migration_price,
            queues: [BinaryHeap::new(), BinaryHeap::new()],
            age: 0,
        }
    }

    fn refine(mut self, border: &Border) -> u64 {
        for &task in &border.tasks {
            self.queue(task as usize);
        }
        let patience = PATIENCE + border.tasks.len();
        let mut moved = Vec::new();
        let mut away = 0.0;
        let (mut best, mut best_length) = (self.badness(away), 0);
        while moved.len() - best_length <= patience
            && let Some((task, to)) = self.next()
        {
            away += self.away(task, to);
            self.scratch.set(task, Known::Done);
            self.partition.move_task(task, to);
            moved.push(task);
            let now = self.badness(away);
            if better(now, best) {
                (best, best_length) = (now, moved.len());
            }
            for (near, _) in self.partition.graph().edges(task) {
                self.queue(near);
            }
        }
        for &task in moved[best_length..].iter().rev() {
            let back = self.parts[1 - self.side(self.partition.owner(task))];
            self.partition.move_task(task, back);
        }
        best_length as u64
    }

    fn side(&self, part: u32) -> usize {
        usize::from(part == self.parts[1])
    }

    /// Load above the limit, and the cuts with the price of migration.
    fn badness(&self, away: f64) -> (f64, f64) {
        let over = |part| (self.partition.load(part) - self.limit).max(0.0);
        let cut = |part| (self.partition.cut(part) / self.unit).powi(POWER);
        let [a, b] = self.parts;
        let cuts = (cut(a) + cut(b)) * self.unit / f64::from(POWER);
        (over(a) + over(b), cuts + away)
    }

    /// What a move does to the price of migration.
    fn away(&self, task: usize, to: u32) -> f64 {
        let home = self.partition.home(task);
        if home == to {
            -self.migration_price
        } else if home == self.partition.owner(task) {
            self.migration_price
        } else {
            0.0
        }
    }

    /// Queues the move of a task to the other side, if that is news.
    fn queue(&mut self, task: usize) {
        let own = self.partition.owner(task);
        if !self.parts.contains(&own) {
            return;
        }
        let side = self.side(own);
        let to = self.parts[1 - side];
        let ties = self.partition.ties(task, to);
        let gain = -self.rates[side] * ties.cut_left() - self.rates[1 - side] * ties.cut_joined() - self.away(task, to);
        match self.scratch.get(task) {
            Some(Known::Done) => return,
            Some(Known::Gain(known)) if known == gain => return,
            _ => self.scratch.set(task, Known::Gain(gain)),
        }
        let age = self.age;
        self.age += 1;
        self.queues[side].push(Move { gain, age, task });
    }

    /// The best move that balance allows, and where to.
    fn next(&mut self) -> Option<(usize, u32)> {
        let tops = [0, 1].map(|side| self.top(side));
        let [a, b] = self.parts.map(|part| self.partition.load(part));
        let side = match tops {
            [None, None] => return None,
            [Some(_), None] => 0,
            [None, Some(_)] => 1,
            // Balance comes before the cut.
            _ if (a > self.limit) != (b > self.limit) => usize::from(b > self.limit),
            [Some(first), Some(second)] => match first.total_cmp(&second) {
                Ordering::Greater => 0,
                Ordering::Less => 1,
                Ordering::Equal => usize::from(b > a),
            },
        };
        let task = self.queues[side].pop()?.task;
        Some((task, self.parts[1 - side]))
    }

    /// The gain of the best move from a side, once stale and forbidden ones are gone.
    fn top(&mut self, side: usize) -> Option<f64> {
        while let Some(&Move { gain, task, .. }) = self.queues[side].peek() {
            let valid = matches!(self.scratch.get(task), Some(Known::Gain(known)) if known == gain);
            if valid && self.allowed(task, side) {
                return Some(gain);
            }
            if valid {
                self.scratch.set(task, Known::Done);
            }
            self.queues[side].pop();
        }
        None
    }

    /// Whether the other side can take the task: it stays below the limit, or at least below what
    /// this side has.
    fn allowed(&self, task: usize, side: usize) -> bool {
        let [from, to] = [self.parts[side], self.parts[1 - side]];
        let after = self.partition.load(to) + f64::from(self.partition.graph().weight(task));
        after <= self.limit || after < self.partition.load(from)
    }
}

/// Less overload, or as much and a lower cut. Rounding is no progress.
fn better(a: (f64, f64), b: (f64, f64)) -> bool {
    let little = 1e-9 * (1.0 + b.0);
    a.0 < b.0 - little || (a.0 <= b.0 + little && a.1 < b.1 - 1e-9 * b.1)
}
