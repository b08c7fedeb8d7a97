//! Three-dimensional meshes of tasks, the Shock scenario, and recursive coordinate bisection.

use std::cmp::Ordering;

use crate::{GraphError, TaskGraph};

/// A box of tasks, each joined to its up to six neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Tasks along each axis.
    pub size: [usize; 3],
}

impl Mesh {
    /// The Shock scenario's 160 × 80 × 80 = 1,024,000 tasks.
    pub const SHOCK: Self = Self { size: [160, 80, 80] };

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.size.iter().product()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a task is.
    pub fn position(&self, task: usize) -> [usize; 3] {
        let [x, y, _] = self.size;
        [task % x, task / x % y, task / (x * y)]
    }

    fn task(&self, [i, j, k]: [usize; 3]) -> usize {
        i + self.size[0] * (j + self.size[1] * k)
    }

    /// The graph with these task weights and edges of weight 1.
    ///
    /// # Errors
    /// If the weights do not fit.
    pub fn graph(&self, weights: Vec<f32>) -> Result<TaskGraph, GraphError> {
        let mut offsets = vec![0];
        let mut neighbours = Vec::with_capacity(6 * self.len());
        for task in 0..self.len() {
            let at = self.position(task);
            for axis in 0..3 {
                for forward in [false, true] {
                    let mut to = at;
                    if forward && at[axis] + 1 < self.size[axis] {
                        to[axis] += 1;
                    } else if !forward && at[axis] > 0 {
                        to[axis] -= 1;
                    } else {
                        continue;
                    }
                    neighbours.push(self.task(to) as u32);
                }
            }
            offsets.push(neighbours.len());
        }
        let edge_weights = vec![1.0; neighbours.len()];
        TaskGraph::new(offsets, neighbours, edge_weights, weights)
    }

    /// How many tasks the front of [`Self::shock`] moves a step.
    pub fn front_speed(&self, steps: u32) -> f64 {
        let longest = self.size.into_iter().max().unwrap_or(0) as f64;
        1.1 * longest / 2.0 / f64::from(steps.max(2) - 1)
    }

    /// Weights of the Shock scenario at `step` of `steps`: a spherical front that starts in the
    /// middle of the box and reaches 1.1 times the half length of its longest side at the last step,
    /// a shell of `width` tasks, four times the load of the rest.
    pub fn shock(&self, step: u32, steps: u32, width: f64) -> Vec<f32> {
        let middle = self.size.map(|n| (n as f64 - 1.0) / 2.0);
        let radius = self.front_speed(steps) * f64::from(step);
        (0..self.len())
            .map(|task| {
                let at = self.position(task);
                let square: f64 = (0..3).map(|axis| (at[axis] as f64 - middle[axis]).powi(2)).sum();
                if (square.sqrt() - radius).abs() <= width / 2.0 { 4.0 } else { 1.0 }
            })
            .collect()
    }

    /// Recursive coordinate bisection into `parts`: cuts the longest side where the load halves.
    pub fn bisect(&self, weights: &[f32], parts: u32) -> Vec<u32> {
        let mut owner = vec![0; self.len()];
        let mut tasks: Vec<u32> = (0..self.len() as u32).collect();
        self.bisect_into(weights, &mut tasks, 0, parts, &mut owner);
        owner
    }

    fn bisect_into(&self, weights: &[f32], tasks: &mut [u32], first: u32, parts: u32, owner: &mut [u32]) {
        if parts <= 1 || tasks.len() <= 1 {
            tasks.iter().for_each(|&task| owner[task as usize] = first);
            return;
        }
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        for &task in tasks.iter() {
            let at = self.position(task as usize);
            for axis in 0..3 {
                low[axis] = low[axis].min(at[axis]);
                high[axis] = high[axis].max(at[axis]);
            }
        }
        let axis = (0..3).max_by_key(|&axis| (high[axis] - low[axis], 2 - axis)).unwrap_or(0);
        let total: f64 = tasks.iter().map(|&task| f64::from(weights[task as usize])).sum();
        let left_parts = parts / 2;
        let wanted = total * f64::from(left_parts) / f64::from(parts);
        let cut = self.split(weights, tasks, axis, wanted);
        let (left, right) = tasks.split_at_mut(cut.clamp(1, tasks.len() - 1));
        self.bisect_into(weights, left, first, left_parts, owner);
        self.bisect_into(weights, right, first + left_parts, parts - left_parts, owner);
    }

    /// Orders `tasks` along an axis as far as needed to split them where the first ones reach the
    /// weight `wanted`; returns how many those are.
    fn split(&self, weights: &[f32], tasks: &mut [u32], axis: usize, wanted: f64) -> usize {
        let layer_of = |task: u32| self.position(task as usize)[axis];
        let weight_of = |task: u32| f64::from(weights[task as usize]);
        let mut layers = vec![0.0; self.size[axis]];
        tasks.iter().for_each(|&task| layers[layer_of(task)] += weight_of(task));
        let (mut sum, mut layer) = (0.0, 0);
        while layer + 1 < layers.len() && sum + layers[layer] < wanted {
            sum += layers[layer];
            layer += 1;
        }
        let side = |wanted| tasks.iter().copied().filter(|&task| layer_of(task).cmp(&layer) == wanted).collect();
        let [below, mut within, above]: [Vec<u32>; 3] = [Ordering::Less, Ordering::Equal, Ordering::Greater].map(side);
        // The other coordinates break ties, so that a cut through a layer is as straight as can be.
        within.sort_unstable_by_key(|&task| {
            let at = self.position(task as usize);
            [at[(axis + 1) % 3], at[(axis + 2) % 3]]
        });
        let reached = within.iter().position(|&task| {
            sum += weight_of(task);
            sum >= wanted
        });
        let cut = below.len() + reached.map_or(within.len(), |at| at + 1);
        tasks.copy_from_slice(&[below, within, above].concat());
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::quality;
    use crate::{Options, rebalance};

    const SMALL: Mesh = Mesh { size: [40, 20, 20] };
    const STEPS: u32 = 60;

    #[test]
    fn bisection_balances() {
        let weights = SMALL.shock(20, STEPS, 3.0);
        let graph = SMALL.graph(weights.clone()).unwrap();
        for parts in [2, 7, 48] {
            let owner = SMALL.bisect(&weights, parts);
            let quality = quality(&graph, &owner, &owner, parts);
            assert!(quality.imbalance < 0.06, "{parts}: {quality:?}");
        }
    }

    /// Means over a run of the Shock scenario by diffusion and by bisection, and the allowed imbalance.
    fn shock(parts: u32) -> ([f64; 3], [f64; 3], f64) {
        let options = Options::default();
        let mut graph = SMALL.graph(SMALL.shock(0, STEPS, 3.0)).unwrap();
        let mut diffused = SMALL.bisect(&SMALL.shock(0, STEPS, 3.0), parts);
        let mut bisected = diffused.clone();
        let (mut ours, mut theirs) = ([0.0; 3], [0.0; 3]);
        let add = |sums: &mut [f64; 3], q: crate::metrics::Quality| {
            for (sum, value) in sums.iter_mut().zip([q.imbalance, q.migration, q.edge_cut]) {
                *sum += value / f64::from(STEPS - 1);
            }
        };
        for step in 1..STEPS {
            let weights = SMALL.shock(step, STEPS, 3.0);
            graph.set_weights(weights.clone()).unwrap();
            let before = diffused.clone();
            rebalance(&graph, &mut diffused, parts, &options).unwrap();
            add(&mut ours, quality(&graph, &before, &diffused, parts));
            let before = std::mem::replace(&mut bisected, SMALL.bisect(&weights, parts));
            add(&mut theirs, quality(&graph, &before, &bisected, parts));
        }
        let heaviest = 4.0 / (SMALL.len() as f64 / f64::from(parts));
        (ours, theirs, options.tolerance + heaviest)
    }

    #[test]
    fn a_travelling_shock_is_followed_with_a_third_of_the_migration_at_nearly_the_same_edge_cut() {
        for parts in [48, 96] {
            let (ours, theirs, allowed) = shock(parts);
            assert!(ours[0] < allowed, "{parts} parts: {ours:?}, {allowed}");
            assert!(3.0 * ours[1] < theirs[1], "{parts} parts: {ours:?}, {theirs:?}");
            assert!(ours[2] < 1.1 * theirs[2], "{parts} parts: {ours:?}, {theirs:?}");
        }
    }

    #[test]
    fn refinement_lowers_the_edge_cut_and_keeps_the_balance() {
        let weights = SMALL.shock(30, STEPS, 3.0);
        let graph = SMALL.graph(weights).unwrap();
        let run = |refinement_passes| {
            let before = SMALL.bisect(&vec![1.0; SMALL.len()], 48);
            let mut owner = before.clone();
            let options = Options { refinement_passes, ..Options::default() };
            rebalance(&graph, &mut owner, 48, &options).unwrap();
            quality(&graph, &before, &owner, 48)
        };
        let (rough, smooth) = (run(0), run(2));
        assert!(smooth.edge_cut < 0.9 * rough.edge_cut, "{rough:?}, {smooth:?}");
        assert!(smooth.imbalance <= rough.imbalance.max(0.05) + 1e-9, "{rough:?}, {smooth:?}");
    }

    #[test]
    fn a_price_lowers_the_migration_of_the_part_that_moves_most() {
        let graph = SMALL.graph(SMALL.shock(30, STEPS, 3.0)).unwrap();
        let run = |migration_price| {
            let before = SMALL.bisect(&SMALL.shock(29, STEPS, 3.0), 96);
            let mut owner = before.clone();
            let options = Options { migration_price, ..Options::default() };
            rebalance(&graph, &mut owner, 96, &options).unwrap();
            quality(&graph, &before, &owner, 96)
        };
        let (free, priced) = (run(0.0), run(Options::default().migration_price));
        assert!(priced.migration < 0.8 * free.migration, "{free:?}, {priced:?}");
    }

    #[test]
    fn within_the_tolerance_nothing_moves_for_balance() {
        let graph = SMALL.graph(SMALL.shock(30, STEPS, 3.0)).unwrap();
        let mut owner = SMALL.bisect(&SMALL.shock(30, STEPS, 3.0), 24);
        let before = owner.clone();
        let options = Options { refinement_passes: 0, ..Options::default() };
        let summary = rebalance(&graph, &mut owner, 24, &options).unwrap();
        assert_eq!((summary.iterations, summary.selected), (0, 0));
        assert_eq!(owner, before);
    }

    #[test]
    fn the_result_is_the_same_every_time_and_no_task_is_lost() {
        let graph = SMALL.graph(SMALL.shock(30, STEPS, 3.0)).unwrap();
        let run = || {
            let mut owner = SMALL.bisect(&vec![1.0; SMALL.len()], 24);
            rebalance(&graph, &mut owner, 24, &Options::default()).unwrap();
            owner
        };
        assert_eq!(run(), run());
        assert!(run().iter().all(|&part| part < 24));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let graph = SMALL.graph(vec![1.0; SMALL.len()]).unwrap();
        let refuse = |owner: &mut [u32]| rebalance(&graph, owner, 4, &Options::default());
        assert!(matches!(refuse(&mut [0, 1]), Err(GraphError::Length { .. })));
        assert!(matches!(refuse(&mut vec![4; SMALL.len()]), Err(GraphError::Part { part: 4, parts: 4 })));
        assert!(matches!(SMALL.graph(vec![f32::NAN; SMALL.len()]), Err(GraphError::Weight(0))));
    }
}
