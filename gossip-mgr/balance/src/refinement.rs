//! Smoother borders: each pair of neighbours swaps tasks by the method of Fiduccia and Mattheyses.
//!
//! A pair moves its border tasks one by one, the best first even if it costs, each at most once, and
//! then takes back all after the best moment. What it minimises is the sum of high powers of the two
//! edge-cuts, not of the edge-cuts: a step of an application takes as long as its slowest part
//! communicates, so the largest cuts must fall first. Migration is as slow as the part that imports and
//! exports the most, so the price of a move grows with the third power of what the part has moved.
//!
//! After all borders come those of the parts with the highest cuts, with a still higher power.
//!
//! A pair reads and changes only what its two parts own. Pairs are coloured so that those of a colour
//! share no part: the distributed form may refine them at the same time with the same result.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Options;
use crate::partition::{Border, Partition};

/// A part's cut counts with this power while all borders are refined, so that the mean cut falls, too.
const POWER: i32 = 3;

/// And with this one at the borders of the worst parts, where only the highest cut matters.
const WORST_POWER: i32 = 8;

/// The worst parts are those with at least this share of the highest cut.
const WORST: f64 = 0.85;

/// How many passes over the borders of the worst parts follow each over all.
const WORST_PASSES: u32 = 2;

/// What a part has moved counts with this power; the price of the next move is the slope.
const MOVED_POWER: i32 = 4;

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
struct Scratch {
    known: Vec<(u32, Known)>,
    round: u32,
}

impl Scratch {
    fn new(tasks: usize) -> Self {
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

/// Refines all borders, then those of the worst parts, each until nothing moves or all passes are done;
/// returns the number of moves.
pub(crate) fn refine(partition: &mut Partition, options: &Options) -> u64 {
    let mut scratch = Scratch::new(partition.graph().len());
    let mut moved = 0;
    for (worst, power, passes) in [(0.0, POWER, 1), (WORST, WORST_POWER, WORST_PASSES)] {
        for _ in 0..options.refinement_passes.saturating_mul(passes) {
            let borders = partition.borders(worst * partition.highest_cut());
            let news = pass(partition, &borders, power, options, &mut scratch);
            moved += news;
            if news == 0 {
                break;
            }
        }
    }
    moved
}

/// Refines each of the borders once; returns the number of moves.
fn pass(partition: &mut Partition, borders: &[Border], power: i32, options: &Options, scratch: &mut Scratch) -> u64 {
    let pairs = coloured(partition.loads().len(), borders);
    pairs.into_iter().map(|border| Pair::new(partition, border, power, options, scratch).refine(border)).sum()
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
    /// The power with which cuts count.
    power: i32,
    /// How much a part's cut weighs as long as it changes little.
    rates: [f64; 2],
    migration_price: f64,
    /// What the next task costs that a part imports or exports, as long as it moves few.
    move_rates: [f64; 2],
    queues: [BinaryHeap<Move>; 2],
    age: u32,
}

impl<'p, 'g> Pair<'p, 'g> {
    fn new(
        partition: &'p mut Partition<'g>,
        border: &Border,
        power: i32,
        options: &Options,
        scratch: &'p mut Scratch,
    ) -> Self {
        scratch.round += 1;
        let parts = [border.parts.0, border.parts.1];
        let cuts = parts.map(|part| partition.cut(part));
        let unit = ((cuts[0] + cuts[1]) / 2.0).max(f64::MIN_POSITIVE);
        let moved = parts.map(|part| partition.moved(part) / partition.mean_tasks());
        Self {
            limit: partition.mean_load() * (1.0 + options.tolerance),
            partition,
            scratch,
            parts,
            unit,
            power,
            rates: cuts.map(|cut| (cut / unit).powi(power - 1)),
            migration_price: options.migration_price,
            move_rates: moved.map(|moved| options.migration_price * moved.powi(MOVED_POWER - 1)),
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
        let (mut best, mut best_length) = (self.badness(), 0);
        while moved.len() - best_length <= patience
            && let Some((task, to)) = self.next()
        {
            self.scratch.set(task, Known::Done);
            self.partition.move_task(task, to);
            moved.push(task);
            let now = self.badness();
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
    fn badness(&self) -> (f64, f64) {
        let over = |part| (self.partition.load(part) - self.limit).max(0.0);
        let cut = |part| (self.partition.cut(part) / self.unit).powi(self.power) * self.unit / f64::from(self.power);
        let tasks = self.partition.mean_tasks();
        let moved = |part| (self.partition.moved(part) / tasks).powi(MOVED_POWER) * tasks / f64::from(MOVED_POWER);
        let [a, b] = self.parts;
        (over(a) + over(b), cut(a) + cut(b) + self.migration_price * (moved(a) + moved(b)))
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
        let left = self.rates[side] * ties.cut_left() + self.move_rates[side] * self.partition.moved_left(task);
        let joined = self.rates[1 - side] * ties.cut_joined()
            + self.move_rates[1 - side] * self.partition.moved_joined(task, to);
        let gain = -left - joined;
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
