//! Which tasks realise a flow: those at the border whose move costs the least edge-cut.

use std::collections::BinaryHeap;

use crate::partition::{Border, Partition};

/// A task that could move: the best is the greatest.
#[derive(PartialEq)]
struct Candidate {
    /// Edge weight to the target less edge weight to the own part.
    gain: f64,
    /// Whether the target is the task's home.
    home: bool,
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
        self.gain.total_cmp(&other.gain).then(self.home.cmp(&other.home)).then_with(|| other.task.cmp(&self.task))
    }
}

fn candidate(partition: &Partition, task: usize, to: u32) -> Candidate {
    let ties = partition.ties(task, to);
    Candidate { gain: ties.other - ties.own, home: partition.home(task) == to, task }
}

/// Moves tasks over `borders` by `amounts`, positive from the lower part to the higher; how many.
pub(crate) fn realise(partition: &mut Partition, borders: &[Border], amounts: &[f64]) -> u64 {
    let mut flows: Vec<(u32, u32, f64, &Border)> = borders
        .iter()
        .zip(amounts)
        .filter(|&(_, &amount)| amount != 0.0)
        .map(|(border, &amount)| {
            let (low, high) = border.parts;
            if amount > 0.0 { (low, high, amount, border) } else { (high, low, -amount, border) }
        })
        .collect();
    // The most loaded first, so that what passes through a part arrives before it leaves.
    flows.sort_by(|a, b| {
        let load = |part| partition.load(part);
        load(b.0).total_cmp(&load(a.0)).then(b.2.total_cmp(&a.2)).then((a.0, a.1).cmp(&(b.0, b.1)))
    });
    flows.into_iter().map(|(from, to, amount, border)| select(partition, from, to, amount, &border.tasks)).sum()
}

fn select(partition: &mut Partition, from: u32, to: u32, amount: f64, border: &[u32]) -> u64 {
    let mut heap: BinaryHeap<Candidate> = border
        .iter()
        .map(|&task| task as usize)
        .filter(|&task| partition.owner(task) == from)
        .map(|task| candidate(partition, task, to))
        .collect();
    let (mut left, mut moved) = (amount, 0);
    while let Some(best) = heap.pop() {
        let task = best.task;
        if partition.owner(task) != from {
            continue;
        }
        let now = candidate(partition, task, to);
        if now != best {
            heap.push(now);
            continue;
        }
        let weight = f64::from(partition.graph().weight(task));
        if weight > 2.0 * left {
            // Too heavy for what is left; a lighter one may still fit.
            continue;
        }
        partition.move_task(task, to);
        left -= weight;
        moved += 1;
        for (near, _) in partition.graph().edges(task) {
            if partition.owner(near) == from {
                heap.push(candidate(partition, near, to));
            }
        }
        if left <= 0.0 {
            break;
        }
    }
    moved
}
