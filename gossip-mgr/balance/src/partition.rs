//! A partition that is being changed, with the sums that every step of the method needs.

use crate::TaskGraph;

/// Who owns which task, and what follows from it.
pub(crate) struct Partition<'a> {
    graph: &'a TaskGraph,
    owner: &'a mut [u32],
    home: Vec<u32>,
    loads: Vec<f64>,
    cuts: Vec<f64>,
    /// Tasks that each part has imported and exported.
    moved: Vec<f64>,
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
        Self { graph, home: owner.to_vec(), owner, loads, cuts, moved: vec![0.0; parts as usize], mean }
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

    /// The highest cut of any part.
    pub fn highest_cut(&self) -> f64 {
        self.cuts.iter().copied().fold(0.0, f64::max)
    }

    /// How many tasks a part has imported and exported since the start. One that came back counts no more.
    pub fn moved(&self, part: u32) -> f64 {
        self.moved[part as usize]
    }

    /// What it does to [`Self::moved`] of its part if a task leaves, 1 or -1.
    pub fn moved_left(&self, task: usize) -> f64 {
        if self.owner[task] == self.home[task] { 1.0 } else { -1.0 }
    }

    /// What it does to [`Self::moved`] of `to` if a task joins, 1 or -1.
    pub fn moved_joined(&self, task: usize, to: u32) -> f64 {
        if to == self.home[task] { -1.0 } else { 1.0 }
    }

    pub fn mean_tasks(&self) -> f64 {
        self.graph.len() as f64 / self.loads.len() as f64
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
        self.moved[from] += self.moved_left(task);
        self.moved[to as usize] += self.moved_joined(task, to);
        self.loads[from] -= weight;
        self.loads[to as usize] += weight;
        self.owner[task] = to;
    }

    /// The borders of all parts with at least this cut, sorted by the parts.
    pub fn borders(&self, least_cut: f64) -> Vec<Border> {
        let wanted = |part: u32| self.cut(part) >= least_cut;
        let mut touching = Vec::new();
        for task in 0..self.graph.len() {
            let own = self.owner[task];
            if !wanted(own) {
                continue;
            }
            let mut last = None;
            for (near, _) in self.graph.edges(task) {
                let part = self.owner[near];
                if part == own {
                    continue;
                }
                let parts = (own.min(part), own.max(part));
                if last != Some(part) {
                    touching.push((parts, task as u32));
                }
                if !wanted(part) {
                    touching.push((parts, near as u32));
                }
                last = Some(part);
            }
        }
        touching.sort_unstable();
        touching.dedup();
        touching
            .chunk_by(|x, y| x.0 == y.0)
            .map(|border| Border { parts: border[0].0, tasks: border.iter().map(|&(_, task)| task).collect() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Mesh;

    const MESH: Mesh = Mesh { size: [12, 8, 6] };

    #[test]
    fn the_sums_follow_every_move() {
        let weights = MESH.shock(3, 10, 2.0);
        let graph = MESH.graph(weights.clone()).unwrap();
        let mut owner = MESH.bisect(&weights, 8);
        let home = owner.clone();
        let mut partition = Partition::new(&graph, &mut owner, 8);
        // Some tasks move twice, to a third part or home.
        for (task, to) in (0..400).map(|n| (n * 37 % 200, (n * 5 % 8) as u32)) {
            if partition.owner(task) != to {
                partition.move_task(task, to);
            }
        }
        let (loads, cuts, moved) = (partition.loads.clone(), partition.cuts.clone(), partition.moved.clone());
        let fresh = Partition::new(&graph, &mut owner, 8);
        assert_eq!((&loads, &cuts), (&fresh.loads, &fresh.cuts));
        for part in 0..8 {
            let away =
                |&task: &usize| home[task] != fresh.owner(task) && [home[task], fresh.owner(task)].contains(&part);
            assert_eq!(moved[part as usize], (0..MESH.len()).filter(away).count() as f64, "part {part}");
        }
        assert!(moved.iter().any(|&moved| moved > 0.0));
    }

    #[test]
    fn the_borders_of_the_worst_are_those_of_all_that_touch_them() {
        let weights = MESH.shock(3, 10, 2.0);
        let graph = MESH.graph(weights.clone()).unwrap();
        let mut owner = MESH.bisect(&weights, 11);
        let partition = Partition::new(&graph, &mut owner, 11);
        let least = 0.85 * partition.highest_cut();
        let wanted =
            |border: &Border| [border.parts.0, border.parts.1].iter().any(|&part| partition.cut(part) >= least);
        let list = |borders: Vec<Border>| borders.into_iter().map(|b| (b.parts, b.tasks)).collect::<Vec<_>>();
        let all = partition.borders(0.0);
        let number = all.len();
        let expected = list(all.into_iter().filter(wanted).collect());
        assert!(!expected.is_empty() && expected.len() < number);
        assert_eq!(list(partition.borders(least)), expected);
    }
}
