//! Diffusion-based repartitioning of a task graph: better balance for little migration.
//!
//! Given who owns which task, [`rebalance`] (1) finds neighbouring parts from the task graph,
//! (2) computes the flow of load between neighbours by second-order diffusion, virtually, (3) selects
//! tasks at the borders to realise it with a low edge-cut, and (4) refines the borders between
//! neighbours within the tolerance. Each step uses only what neighbours know of each other; here they
//! run one after the other in one process, deterministically.
//!
//! The method is that of Lieber, Gößner and Nagel (EuroMPI 2016); how tasks are selected and what
//! refinement minimises is ours.

pub mod diffusion;
pub mod ffi;
pub mod graph;
pub mod mesh;
pub mod metrics;
mod partition;
mod refinement;
mod selection;

pub use graph::{GraphError, TaskGraph};

/// How to balance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Allowed imbalance: highest load over mean load, minus 1. At least 0.
    pub tolerance: f64,
    /// A pair of neighbours stops when its flow falls below this share of the mean load. Above 0.
    pub flow_threshold: f64,
    /// Most iterations of the flow calculation.
    pub max_iterations: u32,
    /// Passes of border refinement over all parts; up to twice as many over those with the highest
    /// edge-cuts follow.
    pub refinement_passes: u32,
    /// How much lower the edge-cut must become, in edge weight, for a task that refinement moves from
    /// where it was, for each of the two parts, once that part has imported and exported as many tasks
    /// as a mean part has; before, less, with the third power of how many it has. More means less
    /// migration and a higher edge-cut. At least 0.
    pub migration_price: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tolerance: 0.05,
            flow_threshold: 0.001,
            max_iterations: 2_000,
            refinement_passes: 2,
            migration_price: 10.0,
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), GraphError> {
        let at_least_zero = |value: f64| value.is_finite() && value >= 0.0;
        if !at_least_zero(self.tolerance) {
            return Err(GraphError::Option("the tolerance", self.tolerance));
        }
        if !at_least_zero(self.flow_threshold) || self.flow_threshold == 0.0 {
            return Err(GraphError::Option("the flow threshold", self.flow_threshold));
        }
        if !at_least_zero(self.migration_price) {
            return Err(GraphError::Option("the price of migration", self.migration_price));
        }
        Ok(())
    }
}

/// What a call did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Iterations of the flow calculation.
    pub iterations: u32,
    /// Tasks moved for balance.
    pub selected: u64,
    /// Tasks moved for the edge-cut.
    pub refined: u64,
}

/// Improves `owner`, the part of each task, in place. A part without any task has no neighbours and
/// stays without.
///
/// # Errors
/// [`GraphError`] if `owner` does not fit the graph or names a part outside `0..parts`, or an option
/// is out of its range; `owner` is unchanged then.
pub fn rebalance(graph: &TaskGraph, owner: &mut [u32], parts: u32, options: &Options) -> Result<Summary, GraphError> {
    options.check()?;
    graph.check_owner(owner, parts)?;
    let mut partition = partition::Partition::new(graph, owner, parts);
    let mut summary = Summary::default();
    // Where borders are too thin for the flow, some is left: at most two more rounds.
    for _ in 0..3 {
        if partition.imbalance() <= options.tolerance {
            break;
        }
        let borders = partition.borders(0.0);
        let pairs: Vec<(u32, u32)> = borders.iter().map(|border| border.parts).collect();
        let flow = diffusion::flow(partition.loads(), &pairs, options);
        summary.iterations += flow.iterations;
        summary.selected += selection::realise(&mut partition, &borders, &flow.amounts);
    }
    summary.refined = refinement::refine(&mut partition, options);
    Ok(summary)
}
