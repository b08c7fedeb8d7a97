//! The figures of merit of FFMK's evaluation.

use crate::TaskGraph;

/// Quality of a partition, and of the way to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Highest load over mean load, minus 1.
    pub imbalance: f64,
    /// Most tasks that a part imports and exports, over the mean number of tasks.
    pub migration: f64,
    /// Highest edge-cut of a part, over the mean number of edges of a part.
    pub edge_cut: f64,
    /// Mean edge-cut of a part, over the mean number of edges of a part.
    pub mean_edge_cut: f64,
}

/// Measures `owner`, which came after `before`.
pub fn quality(graph: &TaskGraph, before: &[u32], owner: &[u32], parts: u32) -> Quality {
    let parts = parts as usize;
    let (mut load, mut moved, mut cut) = (vec![0.0; parts], vec![0u64; parts], vec![0.0; parts]);
    let mut edges = 0.0;
    for task in 0..graph.len() {
        let own = owner[task] as usize;
        load[own] += f64::from(graph.weight(task));
        if before[task] != owner[task] {
            moved[own] += 1;
            moved[before[task] as usize] += 1;
        }
        for (other, weight) in graph.edges(task) {
            edges += f64::from(weight);
            if owner[other] as usize != own {
                cut[own] += f64::from(weight);
            }
        }
    }
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let n = parts as f64;
    let moved: Vec<f64> = moved.into_iter().map(|m| m as f64).collect();
    Quality {
        imbalance: most(&load) / (load.iter().sum::<f64>() / n) - 1.0,
        migration: most(&moved) / (graph.len() as f64 / n),
        edge_cut: most(&cut) / (edges / n),
        mean_edge_cut: cut.iter().sum::<f64>() / edges,
    }
}
