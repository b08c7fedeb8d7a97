//! Broadcast trees over the ranks `0..P` with root 0, numbered *interleaved*: neighbouring ranks lie
//! in different subtrees, so that the orphans of a dead inner process are spread around the ring and
//! the ring correction finds a coloured process next to each of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{CollectiveError, LogP, Rank, Time};

/// Which tree spreads the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// Every process has up to `k` children: `r + i*k^level`, `1 <= i <= k`.
    KAry(u32),
    /// Children of `r` are `r + 2^j` for all `2^j > r`.
    Binomial,
    /// Binomial generalised to a send period of 1 and a delay of `k` periods; `k = 1` is binomial.
    Lame(u32),
    /// The fastest tree under the given LogP parameters (Karp, Sahay, Santos, Schauser, SPAA 1993).
    Optimal,
    /// Binomial with contiguous subtrees. It exists to show what interleaving is for.
    BinomialInOrder,
}

/// A tree in compressed form: 8 bytes a process.
#[derive(Clone, Debug)]
pub struct Tree {
    offsets: Vec<u32>,
    children: Vec<Rank>,
    parents: Vec<Rank>,
    deadline: Time,
}

impl Tree {
    /// Builds the tree of `kind` over `processes` ranks.
    ///
    /// # Errors
    /// [`CollectiveError::NoProcesses`] for 0 processes, [`CollectiveError::Arity`] for a `k` of 0.
    pub fn new(kind: TreeKind, processes: u32, logp: LogP) -> Result<Self, CollectiveError> {
        if processes == 0 {
            return Err(CollectiveError::NoProcesses);
        }
        if matches!(kind, TreeKind::KAry(0) | TreeKind::Lame(0)) {
            return Err(CollectiveError::Arity);
        }
        let parents = match kind {
            TreeKind::KAry(k) => k_ary(k, processes),
            TreeKind::Binomial => (0..processes).map(|r| r & !highest_bit(r)).collect(),
            TreeKind::Lame(k) => lame(k, processes),
            TreeKind::Optimal => optimal(processes, logp),
            TreeKind::BinomialInOrder => (0..processes).map(|r| r & r.wrapping_sub(1)).collect(),
        };
        Ok(Self::from_parents(parents, kind, logp))
    }

    fn from_parents(parents: Vec<Rank>, kind: TreeKind, logp: LogP) -> Self {
        let processes = parents.len();
        let mut offsets = vec![0u32; processes + 1];
        for &parent in &parents[1..] {
            offsets[parent as usize + 1] += 1;
        }
        for i in 0..processes {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let mut children = vec![0; processes - 1];
        for (child, &parent) in parents.iter().enumerate().skip(1) {
            children[next[parent as usize] as usize] = child as Rank;
            next[parent as usize] += 1;
        }
        let mut tree = Self { offsets, children, parents, deadline: 0 };
        if kind == TreeKind::BinomialInOrder {
            // The child with the largest subtree must be served first.
            for r in 0..processes {
                let range = tree.offsets[r] as usize..tree.offsets[r + 1] as usize;
                tree.children[range].reverse();
            }
        }
        tree.deadline = tree.last_arrival(logp);
        tree
    }

    /// Number of ranks.
    pub fn len(&self) -> u32 {
        self.parents.len() as u32
    }

    /// Never: a tree has at least its root.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Children of `rank` in the order in which it sends to them.
    pub fn children(&self, rank: Rank) -> &[Rank] {
        let r = rank as usize;
        &self.children[self.offsets[r] as usize..self.offsets[r + 1] as usize]
    }

    /// Parent of `rank`; `None` for the root.
    pub fn parent(&self, rank: Rank) -> Option<Rank> {
        (rank != 0).then(|| self.parents[rank as usize])
    }

    /// When the last process has the message if none fails, in LogP time units after the start.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    fn last_arrival(&self, logp: LogP) -> Time {
        let mut at = vec![0; self.parents.len()];
        let mut last = 0;
        let mut stack = vec![0 as Rank];
        while let Some(r) = stack.pop() {
            for (i, &child) in self.children(r).iter().enumerate() {
                at[child as usize] = at[r as usize] + i as Time * logp.period() + logp.delay();
                last = last.max(at[child as usize]);
                stack.push(child);
            }
        }
        last
    }
}

fn highest_bit(r: Rank) -> Rank {
    if r == 0 { 0 } else { 1 << r.ilog2() }
}

/// Level `l` begins at rank `1 + k + ... + k^(l-1)` and has `k^l` ranks; the children of its `j`-th
/// rank are the `j`-th rank of each of the `k` stripes of the next level: `r + i*k^l`.
fn k_ary(k: u32, processes: u32) -> Vec<Rank> {
    let mut parents = vec![0; processes as usize];
    let (mut begin, mut width) = (0u64, 1u64);
    let total = u64::from(processes);
    while begin < total {
        for r in begin..(begin + width).min(total) {
            for i in 1..=u64::from(k) {
                if r + i * width < total {
                    parents[(r + i * width) as usize] = r as Rank;
                }
            }
        }
        begin += width;
        width = width.saturating_mul(u64::from(k));
    }
    parents
}

/// R(t) = 1 for t < k, else R(t-1) + R(t-k) processes have the message at time t. Rank r has it from
/// the first t with R(t) > r, and sends at every t from then on to r + R(t+k-1).
fn lame(k: u32, processes: u32) -> Vec<Rank> {
    let k = k as usize;
    let total = u64::from(processes);
    let mut ready = vec![1u64; k];
    // Beyond twice the delay after all ranks are ready no rank below `processes` is named any more.
    while ready[ready.len() - 1] < total {
        let t = ready.len();
        ready.push(ready[t - 1] + ready[t - k]);
    }
    let mut parents = vec![0; processes as usize];
    for r in 0..total {
        let start = ready.partition_point(|&n| n <= r);
        for &offset in ready.iter().skip(start + k - 1) {
            match parents.get_mut((r + offset) as usize) {
                Some(slot) => *slot = r as Rank,
                None => break,
            }
        }
    }
    parents
}

/// Every process that has the message sends as often as it can; ranks are given in the order of
/// arrival, equal arrivals in the order of their senders.
fn optimal(processes: u32, logp: LogP) -> Vec<Rank> {
    let mut parents = vec![0; processes as usize];
    let mut arrivals = BinaryHeap::from([Reverse((logp.delay(), 0 as Rank))]);
    for rank in 1..processes {
        let Some(Reverse((at, sender))) = arrivals.pop() else {
            break;
        };
        parents[rank as usize] = sender;
        arrivals.push(Reverse((at + logp.period(), sender)));
        arrivals.push(Reverse((at + logp.delay(), rank)));
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: LogP = LogP { latency: 2, overhead: 1, gap: 1 };

    fn tree(kind: TreeKind, processes: u32) -> Tree {
        Tree::new(kind, processes, REFERENCE).unwrap()
    }

    #[test]
    fn every_rank_is_reached_exactly_once_at_any_size() {
        let kinds = [
            TreeKind::KAry(1),
            TreeKind::KAry(2),
            TreeKind::KAry(5),
            TreeKind::Binomial,
            TreeKind::BinomialInOrder,
            TreeKind::Lame(1),
            TreeKind::Lame(2),
            TreeKind::Lame(4),
            TreeKind::Optimal,
        ];
        for kind in kinds {
            for processes in 1..200 {
                let tree = tree(kind, processes);
                let mut seen = vec![false; processes as usize];
                seen[0] = true;
                let mut queue = std::collections::VecDeque::from([0]);
                while let Some(r) = queue.pop_front() {
                    for &c in tree.children(r) {
                        assert!(!seen[c as usize], "{kind:?} P={processes}: {c} twice");
                        assert_eq!(tree.parent(c), Some(r));
                        seen[c as usize] = true;
                        queue.push_back(c);
                    }
                }
                assert!(seen.iter().all(|&s| s), "{kind:?} P={processes}");
            }
        }
    }

    #[test]
    fn interleaved_children_follow_the_published_formulas() {
        assert_eq!(tree(TreeKind::Binomial, 16).children(3), [7, 11]);
        assert_eq!(tree(TreeKind::KAry(2), 15).children(1), [3, 5]);
        assert_eq!(tree(TreeKind::KAry(2), 15).children(2), [4, 6]);
        // R = 1 1 2 3 5 8: rank 0 sends to R(1), R(2), ...
        assert_eq!(tree(TreeKind::Lame(2), 8).children(0), [1, 2, 3, 5]);
    }

    #[test]
    fn fault_free_completion_times_under_the_reference_parameters() {
        let deadline = |kind| tree(kind, 65_536).deadline();
        assert_eq!(deadline(TreeKind::Binomial), 64);
        assert_eq!(deadline(TreeKind::Lame(2)), 46);
        assert_eq!(deadline(TreeKind::Lame(4)), 37);
        assert_eq!(deadline(TreeKind::Optimal), 37);
    }

    #[test]
    fn the_optimal_tree_is_lame_when_overhead_is_one() {
        let (a, b) = (tree(TreeKind::Optimal, 3000), tree(TreeKind::Lame(4), 3000));
        assert!((0..3000).all(|r| a.children(r) == b.children(r)));
    }

    #[test]
    fn absurd_parameters_are_refused() {
        assert!(matches!(Tree::new(TreeKind::Binomial, 0, REFERENCE), Err(CollectiveError::NoProcesses)));
        assert!(matches!(Tree::new(TreeKind::Lame(0), 4, REFERENCE), Err(CollectiveError::Arity)));
    }
}
