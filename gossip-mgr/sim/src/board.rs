//! The bulletin board alone, in rounds: how old is what a node knows?

use gossip_core::board::{Board, expected_age};
use gossip_core::rng::Rng;

/// Measured and expected mean age.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Age {
    /// Nodes.
    pub nodes: u32,
    /// Window in rounds.
    pub window: u32,
    /// Fraction of nodes that are dead.
    pub dead: f64,
    /// Mean over all pairs of live nodes and all measured rounds, just before the exchange.
    pub measured: f64,
    /// The model's.
    pub expected: f64,
    /// Mean number of entries in a push.
    pub entries: f64,
}

impl Age {
    /// Relative deviation of the measured age.
    pub fn deviation(&self) -> f64 {
        self.measured / self.expected - 1.0
    }
}

/// Runs `rounds` synchronous rounds of `nodes` nodes after a warm-up of as many as it takes to fill
/// the boards. In each, every live node pushes its window to one node drawn at random.
pub fn ages(nodes: u32, window: u32, dead: f64, rounds: u32, seed: u64) -> Age {
    let mut rng = Rng::new(seed, 0);
    let live = nodes - (f64::from(nodes) * dead).round() as u32;
    let mut boards: Vec<Board<u32, ()>> = (0..live)
        .map(|node| Board::new(node, 1, u64::from(window)))
        .collect();
    let warm_up = 6 * expected_age(nodes, window, dead).ceil() as u64;
    let (mut sum, mut count, mut entries, mut pushes) = (0.0, 0u64, 0u64, 0u64);
    for now in 0..warm_up + u64::from(rounds) {
        for board in &mut boards {
            board.refresh(now, (), false);
        }
        let windows: Vec<(u32, Vec<_>)> = (0..live)
            .filter_map(|node| {
                let drawn = rng.below(u64::from(nodes) - 1) as u32;
                let to = if drawn >= node { drawn + 1 } else { drawn };
                (to < live).then(|| (to, boards[node as usize].window(now).collect()))
            })
            .collect();
        if now >= warm_up {
            for board in &boards {
                for (_, entry) in board.entries() {
                    sum += (now - entry.made_at) as f64;
                    count += 1;
                }
            }
            entries += windows.iter().map(|(_, w)| w.len() as u64).sum::<u64>();
            pushes += windows.len() as u64;
        }
        for (to, window) in windows {
            for notice in window {
                boards[to as usize].merge(now, notice, 0);
            }
        }
    }
    Age {
        nodes,
        window,
        dead,
        measured: sum / count.max(1) as f64,
        expected: expected_age(nodes, window, dead),
        entries: entries as f64 / pushes.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_within_five_percent_of_the_model() {
        for nodes in [64, 256, 1024] {
            for dead in [0.0, 0.1] {
                let age = ages(nodes, 8, dead, 10, 1);
                assert!(age.deviation().abs() < 0.05, "{age:?}");
            }
        }
    }
}
