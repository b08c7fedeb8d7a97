//! The bulletin board alone, in rounds: how old is what a node knows?

use gossip_core::board::{Board, expected_age, expected_age_at_master};
use gossip_core::colony;
use gossip_core::rng::Rng;

/// Measured and expected mean age.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Age {
    /// Nodes among which the age is taken.
    pub nodes: u32,
    /// Mean over all pairs of live nodes and all measured rounds, in rounds, just before the exchange.
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

/// Sum and number of ages.
#[derive(Default)]
struct Mean(f64, u64);

impl Mean {
    fn add(&mut self, age: u64) {
        self.0 += age as f64;
        self.1 += 1;
    }

    fn get(&self) -> f64 {
        self.0 / self.1.max(1) as f64
    }
}

/// Runs synchronous rounds of `nodes` nodes until the boards are full, then `rounds` more. In each,
/// every live node pushes its window to one node drawn at random. A `dead` fraction is dead.
pub fn ages(nodes: u32, window: u32, dead: f64, rounds: u32, seed: u64) -> Age {
    let mut rng = Rng::new(seed, 0);
    let live = nodes - (f64::from(nodes) * dead).round() as u32;
    let expected = expected_age(nodes, window, dead);
    let mut exchange = Exchange::new(live, window);
    let mut mean = Mean::default();
    let warm_up = 6 * expected.ceil() as u64;
    for now in 0..warm_up + u64::from(rounds) {
        exchange.refresh(now);
        if now == warm_up {
            (exchange.pushes, exchange.entries) = (0, 0);
        }
        if now >= warm_up {
            for board in &exchange.boards {
                for (_, entry) in board.entries() {
                    mean.add(now - entry.made_at);
                }
            }
        }
        for node in 0..live {
            let drawn = rng.below(u64::from(nodes) - 1) as u32;
            exchange.push(node, drawn + u32::from(drawn >= node), 0..nodes);
        }
        exchange.deliver();
    }
    Age { nodes, measured: mean.get(), expected, entries: exchange.mean_entries() }
}

/// Ages in a cluster that is cut into colonies: of the entries of a node's own colony on its board, and of
/// those of other colonies on the masters' boards.
pub struct ColonyAges {
    /// Number of colonies.
    pub colonies: u32,
    /// Within a colony.
    pub within: Age,
    /// On the masters, of other colonies.
    pub at_masters: Age,
    /// Entries of other colonies on boards of nodes that are no masters: none, if the code is right.
    pub strays: u64,
}

/// Like [`ages`], with colonies of at most `largest` nodes, `masters` of which hear of all.
pub fn colony_ages(nodes: u32, largest: u32, masters: u32, window: u32, rounds: u32, seed: u64) -> ColonyAges {
    let mut rng = Rng::new(seed, 0);
    let around = |node: u32| {
        let colony = colony::around(node as usize, nodes as usize, largest as usize);
        colony.start as u32..colony.end as u32
    };
    let size = around(0).len() as u32;
    let within = expected_age(size, window, 0.0);
    let at_masters = expected_age_at_master(size, nodes, window);
    let mut exchange = Exchange::new(nodes, window);
    let (mut own, mut foreign, mut strays) = (Mean::default(), Mean::default(), 0);
    let warm_up = 6 * within.max(at_masters).ceil() as u64;
    for now in 0..warm_up + u64::from(rounds) {
        exchange.refresh(now);
        if now == warm_up {
            (exchange.pushes, exchange.entries) = (0, 0);
        }
        if now >= warm_up {
            for (node, board) in (0..).zip(&exchange.boards) {
                let colony = around(node);
                for (of, entry) in board.entries() {
                    let age = now - entry.made_at;
                    match (colony.contains(of), node < masters) {
                        // A master is pushed to more often by its own colony, too.
                        (true, true) => {}
                        (true, false) => own.add(age),
                        (false, true) => foreign.add(age),
                        (false, false) => strays += 1,
                    }
                }
            }
        }
        for node in 0..nodes {
            let colony = around(node);
            let drawn = colony.start + rng.below(colony.len() as u64 - 1) as u32;
            exchange.push(node, drawn + u32::from(drawn >= node), colony.clone());
            let master = colony::master_to_tell(nodes as usize, masters as usize, &mut rng);
            if let Some(master) = master.filter(|&master| master as u32 != node) {
                exchange.push(node, master as u32, colony);
            }
        }
        exchange.deliver();
    }
    let entries = exchange.mean_entries();
    let age = |nodes, measured: &Mean, expected| Age { nodes, measured: measured.get(), expected, entries };
    ColonyAges {
        colonies: nodes.div_ceil(largest),
        within: age(size, &own, within),
        at_masters: age(nodes, &foreign, at_masters),
        strays,
    }
}

/// The boards of all live nodes and what is under way between them.
struct Exchange {
    boards: Vec<Board<u32, ()>>,
    now: u64,
    flights: Vec<(u32, Vec<gossip_core::board::Notice<u32, ()>>)>,
    pushes: u64,
    entries: u64,
}

impl Exchange {
    fn new(live: u32, window: u32) -> Self {
        Self {
            boards: (0..live).map(|node| Board::new(node, 1, u64::from(window))).collect(),
            now: 0,
            flights: Vec::new(),
            pushes: 0,
            entries: 0,
        }
    }

    fn refresh(&mut self, now: u64) {
        self.now = now;
        for board in &mut self.boards {
            board.refresh(now, (), false);
        }
    }

    /// Pushes the part of `from`'s window that is about `about`; to a dead node in vain.
    fn push(&mut self, from: u32, to: u32, about: std::ops::Range<u32>) {
        if (to as usize) < self.boards.len() {
            let window = self.boards[from as usize].window(self.now);
            let window: Vec<_> = window.filter(|n| about.contains(&n.node)).collect();
            self.pushes += 1;
            self.entries += window.len() as u64;
            self.flights.push((to, window));
        }
    }

    fn deliver(&mut self) {
        for (to, window) in self.flights.drain(..) {
            for notice in window {
                self.boards[to as usize].merge(self.now, notice, 0);
            }
        }
    }

    fn mean_entries(&self) -> f64 {
        self.entries as f64 / self.pushes.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_within_five_percent_of_the_model() {
        for nodes in [64, 128, 256, 512, 1024] {
            for dead in [0.0, 0.1] {
                let age = ages(nodes, 8, dead, 10, 1);
                assert!(age.deviation().abs() < 0.05, "{age:?}");
            }
        }
    }

    #[test]
    fn colonies_keep_to_themselves_and_masters_hear_of_all() {
        let ages = colony_ages(512, 128, 32, 8, 30, 1);
        assert_eq!((ages.colonies, ages.strays), (4, 0));
        for age in [ages.within, ages.at_masters] {
            assert!(age.deviation().abs() < 0.05, "{age:?}");
        }
    }
}
