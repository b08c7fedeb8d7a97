//! A partition that is being changed, with the sums that every step of the method needs.

use crate::TaskGraph;

/// Who owns which task, and what follows from it.
pub(crate) struct Partition<'a> {
    graph: &'a TaskGraph,
    owner: &'a mut [u32],
    home: Vec<u32>,
    loads: Vec<f64>,
    cuts: Vec<f64>,
    mean: f64,
}

/// How a task hangs together with two parts, in edge weight.
pub(crate) struct Ties {
    /// With its own part.
    pub own: f64,
    /// With the part that it could move to.
    pub other: f64,
    /// With all parts.
    pub all: f64,
}

impl Ties {
    /// What a move does to the cut of the part that the task leaves.
    pub fn cut_left(&self) -> f64 {
        2.0 * self.own - self.all
    }

    /// What a move does to the cut of the part that the task joins.
    pub fn cut_joined(&self) -> f64 {
        self.all - 2.0 * self.other
    }
}

/// The border between two parts.
pub(crate) struct Border {
    /// The parts, the lower one first.
    pub parts: (u32, u32),
    /// The tasks of either that touch the other, ascending.
    pub tasks: Vec<u32>,
}

impl<'a> Partition<'a> {
    /// `owner` must fit `graph` and name parts below `parts` only.
    pub fn new(graph: &'a TaskGraph, owner: &'a mut [u32], parts: u32) -> Self {
        let mut loads = vec![0.0; parts as usize];
        let mut cuts = vec![0.0; parts as usize];
        for (task, &part) in owner.iter().enumerate() {
            loads[part as usize] += f64::from(graph.weight(task));
            for (other, weight) in graph.edges(task) {
                if owner[other] != part {
                    cuts[part as usize] += f64::from(weight);
                }
            }
        }
        let mean = loads.iter().sum::<f64>() / f64::from(parts.max(1));
        Self { graph, home: owner.to_vec(), owner, loads, cuts, mean }
    }

    pub fn graph(&self) -> &'a TaskGraph {
        self.graph
    }

    pub fn owner(&self, task: usize) -> u32 {
        self.owner[task]
    }

    /// The owner at the start.
    pub fn home(&self, task: usize) -> u32 {
        self.home[task]
    }

    pub fn loads(&self) -> &[f64] {
        &self.loads
    }

    pub fn load(&self, part: u32) -> f64 {
        self.loads[part as usize]
    }

    pub fn mean_load(&self) -> f64 {
        self.mean
    }

    /// The weight of all edges that leave a part.
    pub fn cut(&self, part: u32) -> f64 {
        self.cuts[part as usize]
    }

    /// Highest load over mean load, minus 1.
    pub fn imbalance(&self) -> f64 {
        self.loads.iter().copied().fold(0.0, f64::max) / self.mean.max(f64::MIN_POSITIVE) - 1.0
    }

    pub fn ties(&self, task: usize, to: u32) -> Ties {
        let from = self.owner[task];
        let mut ties = Ties { own: 0.0, other: 0.0, all: 0.0 };
        for (near, weight) in self.graph.edges(task) {
            let weight = f64::from(weight);
            let part = self.owner[near];
            ties.all += weight;
            if part == from {
                ties.own += weight;
            } else if part == to {
                ties.other += weight;
            }
        }
        ties
    }

    pub fn move_task(&mut self, task: usize, to: u32) {
        let from = self.owner[task] as usize;
        let ties = self.ties(task, to);
        let weight = f64::from(self.graph.weight(task));
        self.cuts[from] += ties.cut_left();
        self.cuts[to as usize] += ties.cut_joined();
        self.loads[from] -= weight;
        self.loads[to as usize] += weight;
        self.owner[task] = to;
    }

    /// The borders between all neighbouring parts, sorted by the parts.
    pub fn borders(&self) -> Vec<Border> {
        let mut touching = Vec::new();
        for task in 0..self.graph.len() {
            let own = self.owner[task];
            let begin = touching.len();
            for (near, _) in self.graph.edges(task) {
                let part = self.owner[near];
                let entry = (own.min(part), own.max(part), task as u32);
                if part != own && !touching[begin..].contains(&entry) {
                    touching.push(entry);
                }
            }
        }
        touching.sort_unstable();
        touching
            .chunk_by(|x, y| (x.0, x.1) == (y.0, y.1))
            .map(|border| Border {
                parts: (border[0].0, border[0].1),
                tasks: border.iter().map(|&(.., task)| task).collect(),
            })
            .collect()
    }
}
