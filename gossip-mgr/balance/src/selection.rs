//! Which tasks move: selection along the flow, and refinement of borders.

use std::collections::{BTreeSet, BinaryHeap};

use crate::TaskGraph;

/// A partition that is being changed.
pub(crate) struct State<'a> {
    graph: &'a TaskGraph,
    owner: &'a mut [u32],
    /// The owner at the start: to go home costs nothing.
    home: Vec<u32>,
    loads: Vec<f64>,
    mean: f64,
}

/// A task that could move: the best is the greatest.
#[derive(PartialEq)]
struct Candidate {
    gain: f32,
    task: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.gain
            .total_cmp(&other.gain)
            .then_with(|| other.task.cmp(&self.task))
    }
}

impl<'a> State<'a> {
    pub(crate) fn new(graph: &'a TaskGraph, owner: &'a mut [u32], parts: u32) -> Self {
        let mut loads = vec![0.0; parts as usize];
        for (task, &part) in owner.iter().enumerate() {
            loads[part as usize] += f64::from(graph.weight(task));
        }
        let mean = loads.iter().sum::<f64>() / f64::from(parts.max(1));
        Self {
            graph,
            home: owner.to_vec(),
            owner,
            loads,
            mean,
        }
    }

    pub(crate) fn loads(&self) -> &[f64] {
        &self.loads
    }

    pub(crate) fn imbalance(&self) -> f64 {
        self.loads.iter().copied().fold(0.0, f64::max) / self.mean.max(f64::MIN_POSITIVE) - 1.0
    }

    /// Pairs of parts that share an edge, each once, lower part first.
    pub(crate) fn neighbours(&self) -> Vec<(u32, u32)> {
        let mut pairs = BTreeSet::new();
        for task in 0..self.graph.len() {
            let own = self.owner[task];
            for (other, _) in self.graph.edges(task) {
                let part = self.owner[other];
                if own < part {
                    pairs.insert((own, part));
                }
            }
        }
        pairs.into_iter().collect()
    }

    fn move_task(&mut self, task: usize, to: u32) {
        let weight = f64::from(self.graph.weight(task));
        self.loads[self.owner[task] as usize] -= weight;
        self.loads[to as usize] += weight;
        self.owner[task] = to;
    }

    /// What moving `task` to `to` does to the cut, in edge weight.
    fn gain(&self, task: usize, to: u32) -> f32 {
        let own = self.owner[task];
        self.graph
            .edges(task)
            .map(|(other, weight)| self.side(other, own, to) * weight)
            .sum()
    }

    fn side(&self, task: usize, own: u32, to: u32) -> f32 {
        let part = self.owner[task];
        if part == to {
            1.0
        } else if part == own {
            -1.0
        } else {
            0.0
        }
    }

    /// Whether a move smooths the border, seen from two edges away, and leads home: decides between
    /// moves of equal gain. Between -1 and 1.
    fn smoothness(&self, task: usize, to: u32) -> f32 {
        let own = self.owner[task];
        let (mut sum, mut all) = (0.0, 0.0);
        for (near, weight) in self.graph.edges(task) {
            for (far, further) in self.graph.edges(near) {
                if far != task {
                    sum += self.side(far, own, to) * weight * further;
                    all += weight * further;
                }
            }
        }
        let home = if self.home[task] == to { 0.2 } else { 0.0 };
        0.8 * sum / f32::max(all, f32::MIN_POSITIVE) + home
    }

    fn candidate(&self, task: usize, to: u32) -> Candidate {
        Candidate {
            gain: self.gain(task, to) + 2.0 * self.smoothness(task, to),
            task,
        }
    }

    /// Moves tasks along `pairs` by `amounts`; how many.
    pub(crate) fn realise(&mut self, pairs: &[(u32, u32)], amounts: &[f64]) -> u64 {
        let mut flows: Vec<(u32, u32, f64)> = pairs
            .iter()
            .zip(amounts)
            .map(|(&(i, j), &f)| if f >= 0.0 { (i, j, f) } else { (j, i, -f) })
            .filter(|&(.., f)| f > 0.0)
            .collect();
        // The most loaded first, so that what passes through a part arrives before it leaves.
        flows.sort_by(|a, b| {
            let load = |part: u32| self.loads[part as usize];
            load(b.0)
                .total_cmp(&load(a.0))
                .then(b.2.total_cmp(&a.2))
                .then((a.0, a.1).cmp(&(b.0, b.1)))
        });
        let borders = self.borders(&flows);
        flows
            .iter()
            .zip(borders)
            .map(|(&(from, to, amount), border)| self.select(from, to, amount, border))
            .sum()
    }

    /// For each flow the tasks of its origin that touch its destination.
    fn borders(&self, flows: &[(u32, u32, f64)]) -> Vec<Vec<usize>> {
        let index: std::collections::BTreeMap<(u32, u32), usize> = flows
            .iter()
            .enumerate()
            .map(|(n, &(i, j, _))| ((i, j), n))
            .collect();
        let mut borders = vec![Vec::new(); flows.len()];
        for task in 0..self.graph.len() {
            let own = self.owner[task];
            for (other, _) in self.graph.edges(task) {
                let part = self.owner[other];
                if part != own
                    && let Some(&n) = index.get(&(own, part))
                    && borders[n].last() != Some(&task)
                {
                    borders[n].push(task);
                }
            }
        }
        borders
    }

    fn select(&mut self, from: u32, to: u32, amount: f64, border: Vec<usize>) -> u64 {
        let mut heap: BinaryHeap<Candidate> = border
            .into_iter()
            .filter(|&task| self.owner[task] == from)
            .map(|task| self.candidate(task, to))
            .collect();
        let (mut left, mut moved) = (amount, 0);
        while let Some(Candidate { gain, task }) = heap.pop() {
            if self.owner[task] != from {
                continue;
            }
            let now = self.candidate(task, to);
            if now.gain != gain {
                heap.push(now);
                continue;
            }
            let weight = f64::from(self.graph.weight(task));
            if weight > 2.0 * left {
                // Too heavy for what is left; a lighter one may still fit.
                continue;
            }
            self.move_task(task, to);
            left -= weight;
            moved += 1;
            for (other, _) in self.graph.edges(task) {
                if self.owner[other] == from {
                    heap.push(self.candidate(other, to));
                }
            }
            if left <= 0.0 {
                break;
            }
        }
        moved
    }

    /// One pass over all border tasks: each moves to the neighbouring part where the cut gains most,
    /// if that part stays within the tolerance; from an overloaded part it moves to a less loaded
    /// one even at a loss. Returns the number of moves.
    pub(crate) fn refine(&mut self, tolerance: f64) -> u64 {
        let limit = self.mean * (1.0 + tolerance);
        let mut moved = 0;
        for task in 0..self.graph.len() {
            let own = self.owner[task];
            let weight = f64::from(self.graph.weight(task));
            let overloaded = self.loads[own as usize] > limit;
            let mut best: Option<(f32, u32)> = None;
            for (other, _) in self.graph.edges(task) {
                let part = self.owner[other];
                if part == own || self.loads[part as usize] + weight > limit {
                    continue;
                }
                let gain = self.gain(task, part);
                let relieves = self.loads[part as usize] + weight < self.loads[own as usize];
                if gain < -2.0 || (gain < 0.0 && !(overloaded && relieves)) {
                    continue;
                }
                // A move without gain pays if it smooths the border.
                let smooth = self.smoothness(task, part);
                let worthwhile = gain > 0.0 || smooth > 0.15 || (overloaded && relieves);
                let value = gain + smooth;
                if worthwhile && best.is_none_or(|(v, _)| value > v) {
                    best = Some((value, part));
                }
            }
            if let Some((_, part)) = best {
                self.move_task(task, part);
                moved += 1;
            }
        }
        moved
    }
}
