//! Diffusion-based repartitioning of a task graph: better balance for little migration.
//!
//! Given who owns which task, [`rebalance`] (1) finds neighbouring parts from the task graph,
//! (2) computes the flow of load between neighbours by second-order diffusion, virtually, (3) selects
//! tasks at the borders to realise it with a low edge-cut, and (4) refines the borders between
//! neighbours within the tolerance. Each step uses only what neighbours know of each other; here they
//! run one after the other in one process, deterministically.
//!
//! The method is that of Lieber, Gößner and Nagel (EuroMPI 2016); the weights of task selection are
//! ours.

pub mod diffusion;
pub mod ffi;
pub mod graph;
pub mod mesh;
pub mod metrics;
mod selection;

pub use graph::{GraphError, TaskGraph};

/// How to balance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Allowed imbalance: highest load over mean load, minus 1.
    pub tolerance: f64,
    /// A pair of neighbours stops when its flow falls below this share of the mean load.
    pub flow_threshold: f64,
    /// Most iterations of the flow calculation.
    pub max_iterations: u32,
    /// Passes of border refinement.
    pub refinement_passes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tolerance: 0.05,
            flow_threshold: 0.001,
            max_iterations: 2_000,
            refinement_passes: 6,
        }
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

/// Improves `owner`, the part of each task, in place.
///
/// # Errors
/// [`GraphError`] if `owner` does not fit the graph or names a part outside `0..parts`.
pub fn rebalance(
    graph: &TaskGraph,
    owner: &mut [u32],
    parts: u32,
    options: &Options,
) -> Result<Summary, GraphError> {
    graph.check_owner(owner, parts)?;
    let mut state = selection::State::new(graph, owner, parts);
    let mut summary = Summary::default();
    // Where borders are too thin for the flow, some is left: at most two more rounds.
    for _ in 0..3 {
        if state.imbalance() <= options.tolerance {
            break;
        }
        let pairs = state.neighbours();
        let flow = diffusion::flow(state.loads(), &pairs, options);
        summary.iterations += flow.iterations;
        summary.selected += state.realise(&pairs, &flow.amounts);
    }
    for _ in 0..options.refinement_passes {
        let moved = state.refine(options.tolerance);
        summary.refined += moved;
        if moved == 0 {
            break;
        }
    }
    Ok(summary)
}
