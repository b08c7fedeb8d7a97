//! Who exchanges the board with whom. All nodes, in the order of their addresses, are cut into the
//! fewest colonies that are not above the largest size, all as large as each other (or one apart).
//! Boards are exchanged within a colony; the first nodes of all are masters and hear of every colony.

use std::ops::Range;

use crate::rng::Rng;

/// The positions of the colony of the node at `position` among `nodes`, with colonies of at most
/// `largest` nodes.
pub fn around(position: usize, nodes: usize, largest: usize) -> Range<usize> {
    let colonies = nodes.div_ceil(largest.max(1)).max(1);
    let colony = position * colonies / nodes.max(1);
    let first = |colony: usize| (colony * nodes).div_ceil(colonies);
    first(colony)..first(colony + 1)
}

/// The position of the master that is to hear of a push: one of the first `masters`, with
/// probability masters/nodes, so that each hears of one push in a unit of time on average.
pub fn master_to_tell(nodes: usize, masters: usize, rng: &mut Rng) -> Option<usize> {
    let drawn = rng.below(nodes.max(1) as u64) as usize;
    (drawn < masters).then_some(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn colonies_cut_all_nodes_into_equal_parts(nodes in 1usize..5_000, largest in 2usize..1_100) {
            let (mut at, mut sizes) = (0, Vec::new());
            while at < nodes {
                let colony = around(at, nodes, largest);
                prop_assert_eq!(colony.start, at);
                prop_assert_eq!(&around(colony.end - 1, nodes, largest), &colony);
                sizes.push(colony.len());
                at = colony.end;
            }
            prop_assert_eq!(sizes.len(), nodes.div_ceil(largest));
            let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
            prop_assert!(most <= largest && most - least <= 1, "{:?}", sizes);
        }
    }
}
