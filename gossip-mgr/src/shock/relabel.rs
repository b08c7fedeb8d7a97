//! New names for parts, so that a partition that was made afresh moves no more than it must.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Renames the parts of `new` so that most tasks stay where they were in `old`: greedily by overlap, unless
/// that makes more of them move, as it may where the names are already good.
pub fn relabel(old: &[u32], new: &mut [u32], parts: u32) {
    let mut overlap = BTreeMap::new();
    for (&a, &b) in old.iter().zip(new.iter()) {
        *overlap.entry((b, a)).or_insert(0u32) += 1;
    }
    let staying =
        |names: &[u32]| -> u32 { (0..).zip(names).map(|(b, &a)| overlap.get(&(b, a)).copied().unwrap_or(0)).sum() };
    let mut pairs: Vec<_> = overlap.iter().map(|(&pair, &count)| (pair, count)).collect();
    pairs.sort_by_key(|&(pair, count)| (Reverse(count), pair));
    let mut name = vec![None; parts as usize];
    let mut taken = vec![false; parts as usize];
    for ((b, a), _) in pairs {
        if name[b as usize].is_none() && !taken[a as usize] {
            name[b as usize] = Some(a);
            taken[a as usize] = true;
        }
    }
    let mut free = (0..parts).filter(|&a| !taken[a as usize]);
    let names: Vec<u32> = name.into_iter().map(|n| n.or_else(|| free.next()).unwrap_or_default()).collect();
    let same: Vec<u32> = (0..parts).collect();
    if staying(&names) > staying(&same) {
        new.iter_mut().for_each(|part| *part = names[*part as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_renamed_after_those_that_they_overlap_most() {
        let mut new = [2, 2, 2, 0, 0, 1];
        relabel(&[0, 0, 0, 1, 1, 1], &mut new, 3);
        assert_eq!(new, [0, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn names_that_keep_more_tasks_stay() {
        // The largest overlap, three tasks of the new part 0 in the old part 1, would cost both others.
        let old = [0, 0, 1, 1, 1, 1, 1];
        let kept = [0, 0, 0, 0, 0, 1, 1];
        let mut new = kept;
        relabel(&old, &mut new, 2);
        assert_eq!(new, kept);
    }
}
