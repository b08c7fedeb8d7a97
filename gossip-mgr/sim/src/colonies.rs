//! Whole nodes in more than one colony: who is on whose board, and how old.

use gossip_core::board::{expected_age, expected_age_at_master};
use gossip_core::node::Settings;

use crate::cluster::{Cluster, SECOND};

/// What the boards of a running cluster hold.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Boards {
    /// Seconds until all nodes knew of all.
    pub joined_after: f64,
    /// Number of colonies.
    pub colonies: usize,
    /// Pairs of nodes of one colony of which the one is missing on the other's board.
    pub missing: u64,
    /// Nodes missing on a master's board.
    pub missing_at_masters: u64,
    /// Entries of other colonies on boards of nodes that are no masters.
    pub strays: u64,
    /// Mean age within a colony in intervals, measured and by the model (just before an exchange).
    pub within: (f64, f64),
    /// Mean age of other colonies' entries on the masters' boards, measured and by the model.
    pub at_masters: (f64, f64),
}

/// Lets `nodes` nodes join each other and looks at their boards for `seconds`, once an interval.
pub fn boards(settings: &Settings, nodes: usize, seconds: u64, seed: u64) -> (Cluster, Boards) {
    let mut cluster = Cluster::new(settings.clone(), nodes, seed);
    cluster.run_until(600 * SECOND, Cluster::is_converged);
    let joined_after = cluster.now() as f64 / SECOND as f64;
    // Long enough for the slowest entry.
    cluster.run(60 * SECOND);
    let size = cluster.node(0).colony().len();
    let window = settings.window;
    let mut result = Boards {
        joined_after,
        colonies: nodes.div_ceil(size),
        within: (0.0, expected_age(size as u32, window, 0.0)),
        at_masters: (0.0, expected_age_at_master(size as u32, nodes as u32, window)),
        ..Boards::default()
    };
    let end = cluster.now() + seconds * SECOND;
    let (mut own, mut foreign) = ((0.0, 0u64), (0.0, 0u64));
    while cluster.now() < end {
        (result.missing, result.missing_at_masters) = (0, 0);
        for host in 0..nodes {
            let node = cluster.node(host);
            let colony = node.colony();
            let is_master = node.masters().contains(&node.me().addr);
            for other in 0..nodes {
                let near = colony.contains(&other);
                let Some(entry) = node.board().get(&cluster.addr(other)) else {
                    result.missing += u64::from(near);
                    result.missing_at_masters += u64::from(is_master && !near);
                    continue;
                };
                let age = cluster.now().saturating_sub(entry.made_at) as f64 / settings.gossip_interval as f64;
                match (near, is_master) {
                    (true, _) => own = (own.0 + age, own.1 + 1),
                    (false, true) => foreign = (foreign.0 + age, foreign.1 + 1),
                    (false, false) => result.strays += 1,
                }
            }
        }
        cluster.run(settings.gossip_interval);
    }
    result.within.0 = own.0 / own.1.max(1) as f64;
    result.at_masters.0 = foreign.0 / foreign.1.max(1) as f64;
    (cluster, result)
}
