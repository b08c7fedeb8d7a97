//! The bulletin board: what every node knows of every other, and how old that knowledge is.
//!
//! Once per unit of time each node refreshes its own entry and pushes all entries that are at most a
//! window old to one node drawn at random. The receiver keeps what is newer (Barak et al., CCPE
//! 2015). Ages are kept by the local clock alone: an entry travels with its age, not with a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Time in microseconds of a local clock that never goes back.
pub type Micros = u64;

/// An entry on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice<K, R> {
    /// Whose report it is.
    pub node: K,
    /// Which life of that node: grows with each start.
    pub incarnation: u64,
    /// Grows with each report of one life.
    pub version: u64,
    /// Time since the node made the report.
    pub age: Micros,
    /// Passed on whatever its age, until it is this old a second time.
    pub urgent: bool,
    /// The report.
    pub report: R,
}

/// An entry on the board.
#[derive(Clone, Debug)]
pub struct Entry<R> {
    /// Which life of the node.
    pub incarnation: u64,
    /// Which report of that life.
    pub version: u64,
    /// Local time at which the report was made.
    pub made_at: Micros,
    /// See [`Notice::urgent`].
    pub urgent: bool,
    /// The report.
    pub report: R,
}

/// The board of one node. `K` names nodes, `R` is what they report.
#[derive(Clone, Debug)]
pub struct Board<K, R> {
    me: K,
    incarnation: u64,
    version: u64,
    window: Micros,
    entries: BTreeMap<K, Entry<R>>,
}

impl<K: Ord + Clone, R: Clone> Board<K, R> {
    /// An empty board of node `me`, which passes on entries up to `window` old.
    pub fn new(me: K, incarnation: u64, window: Micros) -> Self {
        Self { me, incarnation, version: 0, window, entries: BTreeMap::new() }
    }

    /// Begins a new life: needed after others took this node for dead.
    pub fn renew(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
    }

    /// Replaces the own entry.
    pub fn refresh(&mut self, now: Micros, report: R, urgent: bool) {
        self.version += 1;
        let entry = Entry { incarnation: self.incarnation, version: self.version, made_at: now, urgent, report };
        self.entries.insert(self.me.clone(), entry);
    }

    /// What is to be pushed now. Urgent entries are passed on for twice the window.
    pub fn window(&self, now: Micros) -> impl Iterator<Item = Notice<K, R>> + '_ {
        self.entries.iter().filter_map(move |(node, entry)| {
            let age = now.saturating_sub(entry.made_at);
            let limit = if entry.urgent { 2 * self.window } else { self.window };
            (age <= limit).then(|| Notice {
                node: node.clone(),
                incarnation: entry.incarnation,
                version: entry.version,
                age,
                urgent: entry.urgent,
                report: entry.report.clone(),
            })
        })
    }

    /// Takes a notice that was `transit` under way; tells whether it was news. The time at which a
    /// node's report was made never goes back.
    pub fn merge(&mut self, now: Micros, notice: Notice<K, R>, transit: Micros) -> bool {
        if notice.node == self.me {
            return false;
        }
        let mut made_at = now.saturating_sub(notice.age.saturating_add(transit));
        if let Some(known) = self.entries.get(&notice.node) {
            if (notice.incarnation, notice.version) <= (known.incarnation, known.version) {
                return false;
            }
            made_at = made_at.max(known.made_at);
        }
        let entry = Entry {
            incarnation: notice.incarnation,
            version: notice.version,
            made_at,
            urgent: notice.urgent,
            report: notice.report,
        };
        self.entries.insert(notice.node, entry);
        true
    }

    /// Forgets a node.
    pub fn remove(&mut self, node: &K) {
        self.entries.remove(node);
    }

    /// Forgets all nodes but those that `keep` names.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.entries.retain(|node, _| keep(node));
    }

    /// The entry of a node.
    pub fn get(&self, node: &K) -> Option<&Entry<R>> {
        self.entries.get(node)
    }

    /// All entries in the order of their nodes.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &Entry<R>)> {
        self.entries.iter()
    }
}

/// The probability x(a) that an entry is at most `a` units old, just before a unit's exchange, for
/// a = 0, 1, …: `n` nodes (a `dead` fraction of them dead but not yet known to be), window of
/// `window` units.
///
/// x(0) = 1/((1-p)n), and one exchange later x(a+1) = 1 - (1 - x(a)) exp(-(1-p) x(min(a, T))), as the
/// number of pushes that a node gets is Poisson distributed with mean 1-p.
fn spread(n: u32, window: u32, dead: f64) -> impl Iterator<Item = (f64, f64)> {
    let alive = 1.0 - dead;
    let mut x = 1.0 / (alive * f64::from(n));
    let mut in_window = x;
    (0u32..1_000_000).map(move |age| {
        if age <= window {
            in_window = x;
        }
        let now = (x, in_window);
        x = 1.0 - (1.0 - x) * (-alive * in_window).exp();
        now
    })
}

/// Expected mean age in units, over all pairs of live nodes of a colony: the sum of 1 - x(a), see
/// `spread` for the parameters and the model.
pub fn expected_age(n: u32, window: u32, dead: f64) -> f64 {
    let terms = spread(n, window, dead).map(|(x, _)| 1.0 - x);
    terms.take_while(|&left| left >= 1e-9).sum()
}

/// Expected mean age in units of the entries of another colony, of `n` of all `nodes`, on a master's
/// board. In a unit a master gets n/nodes pushes of that colony on average, each with the window of
/// a random node of it: y(0) = 0, y(a+1) = 1 - (1 - y(a)) exp(-n/nodes x(min(a, T))).
pub fn expected_age_at_master(n: u32, nodes: u32, window: u32) -> f64 {
    let rate = f64::from(n) / f64::from(nodes);
    let mut older = 1.0;
    let terms = spread(n, window, 0.0).map(move |(_, in_window)| {
        let now = older;
        older *= (-rate * in_window).exp();
        now
    });
    terms.take_while(|&left| left >= 1e-9).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice(version: u64, age: Micros) -> Notice<u32, u64> {
        Notice { node: 7, incarnation: 1, version, age, urgent: false, report: version }
    }

    #[test]
    fn only_news_replaces_an_entry() {
        let mut board = Board::new(0, 1, 100);
        assert!(board.merge(1_000, notice(2, 50), 5));
        assert!(!board.merge(1_001, notice(2, 1), 0));
        assert!(!board.merge(1_002, notice(1, 0), 0));
        assert_eq!(board.get(&7).unwrap().made_at, 945);
        assert!(board.merge(1_003, Notice { incarnation: 2, ..notice(1, 0) }, 0));
    }

    #[test]
    fn old_entries_are_not_passed_on_unless_urgent() {
        let mut board = Board::new(0, 1, 100);
        board.merge(0, notice(1, 0), 0);
        board.merge(0, Notice { node: 8, urgent: true, ..notice(1, 0) }, 0);
        let passed = |now| board.window(now).map(|n| n.node).collect::<Vec<_>>();
        assert_eq!(passed(100), [7, 8]);
        assert_eq!(passed(150), [8]);
        assert_eq!(passed(201), [0; 0]);
    }

    #[test]
    fn nobody_else_writes_the_own_entry() {
        let mut board = Board::new(7, 1, 100);
        board.refresh(10, 42, false);
        assert!(!board.merge(11, notice(99, 0), 0));
        assert_eq!(board.get(&7).unwrap().report, 42);
    }

    #[test]
    fn the_model_gives_the_reference_figures() {
        assert!((expected_age(1024, 8, 0.0) - 11.94).abs() < 0.01);
        assert!((expected_age(256, u32::MAX, 0.0) - 8.10).abs() < 0.05);
        assert!((expected_age(1024, u32::MAX, 0.0) - 10.11).abs() < 0.05);
        assert!((expected_age(65_536, 10, 0.0) - 74.0).abs() < 1.0);
    }

    proptest! {
        #[test]
        fn the_time_of_the_known_report_never_goes_back(
            arrivals in proptest::collection::vec((0u64..50, 0u64..1_000, 0u64..100), 1..60)
        ) {
            let mut board = Board::new(0u32, 1, 100);
            let (mut now, mut last, mut version) = (10_000, 0, 0);
            for (v, age, step) in arrivals {
                now += step;
                board.merge(now, notice(v, age), 0);
                let entry = board.get(&7).unwrap();
                prop_assert!(entry.made_at >= last && entry.version >= version);
                prop_assert!(entry.made_at <= now);
                (last, version) = (entry.made_at, entry.version);
            }
        }
    }
}
