//! Which ranks form a group, and who is whose partner: never nodes that fail together.
//!
//! What nodes have in common (a power supply, a switch) is given as labels. Two nodes with a label in common are joined
//! in the correlation graph: one failure may take both.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{Level, Name};

/// A node as far as placing copies goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: Name,
    /// Labels of what it shares with others.
    #[serde(default)]
    pub shares: BTreeSet<String>,
}

impl Host {
    /// Whether one failure may take both.
    pub fn fails_with(&self, other: &Self) -> bool {
        self.name == other.name || !self.shares.is_disjoint(&other.shares)
    }
}

/// Why there are no groups or partners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Fewer ranks than a group has.
    #[error(
        "level {level} wants groups of {wanted} (k + m) and the job has {ranks} ranks on {nodes} nodes: lower its `group` or \
         `parities`, use more nodes, or leave the level out"
    )]
    TooFew {
        /// The level.
        level: Level,
        /// Members of a group.
        wanted: usize,
        /// Ranks of the job.
        ranks: usize,
        /// Their nodes.
        nodes: usize,
    },
    /// The nodes have too much in common.
    #[error(
        "level {level} wants groups of {wanted} nodes that do not fail together, and the job's {nodes} nodes have too much in \
         common (`shares`): lower `group`, spread the job over more switches and power supplies, or leave the level out"
    )]
    Correlated {
        /// The level.
        level: Level,
        /// Members of a group.
        wanted: usize,
        /// Nodes of the job.
        nodes: usize,
    },
}

/// Divides ranks, of which `of_rank` says the node, into groups of about `group`, each of which can lose `parities`.
///
/// The groups are equally large but for one, and never larger than asked for unless they would be too small then.
///
/// # Errors
/// [`NoPlace`].
pub fn groups(
    hosts: &[Host],
    of_rank: &[usize],
    group: usize,
    parities: usize,
    level: Level,
) -> Result<Vec<Vec<u32>>, NoPlace> {
    let ranks = of_rank.len();
    let nodes = of_rank.iter().collect::<BTreeSet<_>>().len();
    let too_few = NoPlace::TooFew { level, wanted: group, ranks, nodes };
    if group <= parities || nodes < group {
        return Err(too_few);
    }
    let small = ranks.div_ceil(group);
    let counts = [small, ranks / group].into_iter().filter(|&count| ranks / count > parities);
    for count in counts {
        for turn in 0..ranks {
            if let Some(found) = divide(hosts, of_rank, count, turn) {
                return Ok(found);
            }
        }
    }
    Err(NoPlace::Correlated { level, wanted: group, nodes })
}

/// Deals the ranks out to `count` groups: those with the most relatives first, as they have the least choice.
fn divide(hosts: &[Host], of_rank: &[usize], count: usize, turn: usize) -> Option<Vec<Vec<u32>>> {
    let ranks = of_rank.len();
    let relatives = |rank: usize| {
        let own = &hosts[of_rank[rank]];
        of_rank.iter().filter(|&&other| own.fails_with(&hosts[other])).count()
    };
    let label = |rank: usize| hosts[of_rank[rank]].shares.first().cloned();
    let mut order: Vec<usize> = (0..ranks).collect();
    order.rotate_left(turn);
    order.sort_by_key(|&rank| (std::cmp::Reverse(relatives(rank)), label(rank)));
    let mut groups: Vec<Vec<u32>> = vec![Vec::new(); count];
    for rank in order {
        let own = &hosts[of_rank[rank]];
        let fits = |group: &&mut Vec<u32>| {
            group.len() < ranks.div_ceil(count)
                && !group.iter().any(|&other| own.fails_with(&hosts[of_rank[other as usize]]))
        };
        groups.iter_mut().filter(fits).min_by_key(|group| group.len())?.push(rank as u32);
    }
    let smallest = groups.iter().map(Vec::len).min()?;
    (smallest >= ranks / count).then(|| {
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups.sort();
        groups
    })
}

/// For each node in `used` the node that keeps copies of its pieces in this turn. Where one can, each keeps for one only.
///
/// # Errors
/// [`NoPlace`] if some node has none that does not fail with it.
pub fn partners(hosts: &[Host], used: &[usize], turn: u32) -> Result<Vec<usize>, NoPlace> {
    let nodes = used.len();
    let fine = |from: usize, shift: usize| !hosts[used[from]].fails_with(&hosts[used[(from + shift) % nodes]]);
    let shifts: Vec<usize> = (1..nodes).filter(|&shift| (0..nodes).all(|from| fine(from, shift))).collect();
    if !shifts.is_empty() {
        let shift = shifts[turn as usize % shifts.len()];
        return Ok((0..nodes).map(|from| used[(from + shift) % nodes]).collect());
    }
    let own = |from: usize| {
        let choice: Vec<usize> = (1..nodes).filter(|&shift| fine(from, shift)).collect();
        let shift = choice.get(turn as usize % choice.len().max(1))?;
        Some(used[(from + shift) % nodes])
    };
    (0..nodes).map(own).collect::<Option<_>>().ok_or(match nodes {
        0 | 1 => NoPlace::TooFew { level: Level::Partner, wanted: 2, ranks: nodes, nodes },
        _ => NoPlace::Correlated { level: Level::Partner, wanted: 2, nodes },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(shares: &[&str]) -> Vec<Host> {
        let host = |(at, shares): (usize, &&str)| Host {
            name: format!("n{at}").parse().unwrap(),
            shares: shares.split_whitespace().map(str::to_owned).collect(),
        };
        shares.iter().enumerate().map(host).collect()
    }

    fn check(hosts: &[Host], groups: &[Vec<u32>], of_rank: &[usize]) {
        let mut all: Vec<u32> = groups.concat();
        all.sort_unstable();
        assert_eq!(all, (0..of_rank.len() as u32).collect::<Vec<_>>(), "each rank is in one group");
        for group in groups {
            for (at, &a) in group.iter().enumerate() {
                for &b in &group[at + 1..] {
                    let (a, b) = (&hosts[of_rank[a as usize]], &hosts[of_rank[b as usize]]);
                    assert!(!a.fails_with(b), "{} and {} are in one group", a.name, b.name);
                }
            }
        }
    }

    #[test]
    fn groups_avoid_nodes_that_fail_together() {
        let hosts = hosts(&["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4"]);
        let of_rank: Vec<usize> = (0..8).collect();
        let groups = groups(&hosts, &of_rank, 4, 2, Level::ReedSolomon).unwrap();
        assert_eq!(groups.len(), 2);
        check(&hosts, &groups, &of_rank);
    }

    #[test]
    fn several_ranks_of_a_node_are_in_different_groups() {
        let hosts = hosts(&["", "", "", ""]);
        let of_rank = [0, 0, 1, 1, 2, 2, 3, 3];
        let groups = groups(&hosts, &of_rank, 4, 1, Level::Xor).unwrap();
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        check(&hosts, &groups, &of_rank);
    }

    #[test]
    fn power_and_switch_together_are_avoided() {
        // A grid of three power supplies and three switches.
        let hosts = hosts(&["p0 s0", "p0 s1", "p0 s2", "p1 s0", "p1 s1", "p1 s2", "p2 s0", "p2 s1", "p2 s2"]);
        let of_rank: Vec<usize> = (0..9).collect();
        let groups = groups(&hosts, &of_rank, 3, 1, Level::Xor).unwrap();
        assert_eq!(groups.len(), 3);
        check(&hosts, &groups, &of_rank);
    }

    #[test]
    fn a_rest_makes_smaller_groups_rather_than_weaker_ones() {
        let hosts = hosts(&[""; 9]);
        let of_rank: Vec<usize> = (0..9).collect();
        let sizes = |group, parities| {
            let groups = groups(&hosts, &of_rank, group, parities, Level::ReedSolomon).unwrap();
            check(&hosts, &groups, &of_rank);
            groups.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(8, 2), [5, 4]);
        // Two groups of 4 and 5 could not hold four parities and data.
        assert_eq!(sizes(8, 4), [9]);
    }

    #[test]
    fn too_few_nodes_and_too_much_in_common_are_told_apart() {
        let of_rank = [0, 1, 2, 3];
        let few = groups(&hosts(&["", "", "", ""]), &of_rank, 6, 2, Level::ReedSolomon).unwrap_err();
        assert!(few.to_string().contains("groups of 6 (k + m) and the job has 4 ranks on 4 nodes"), "{few}");
        let common = groups(&hosts(&["p", "p", "p", "q"]), &of_rank, 3, 1, Level::Xor).unwrap_err();
        assert!(common.to_string().contains("too much in common"), "{common}");
    }

    #[test]
    fn partners_rotate_and_avoid_relatives() {
        let hosts = hosts(&["p1", "p1", "p2", "p2", "p3", "p3"]);
        let used: Vec<usize> = (0..6).collect();
        let mut seen = vec![BTreeSet::new(); 6];
        for turn in 0..6 {
            let partners = partners(&hosts, &used, turn).unwrap();
            let keepers: BTreeSet<usize> = partners.iter().copied().collect();
            assert_eq!(keepers.len(), 6, "each keeps for one");
            for (node, &partner) in partners.iter().enumerate() {
                assert!(!hosts[node].fails_with(&hosts[partner]));
                seen[node].insert(partner);
            }
        }
        assert!(seen.iter().all(|partners| partners.len() > 1), "{seen:?}");
        assert!(partners(&hosts[..2], &[0, 1], 0).is_err());
    }
}
