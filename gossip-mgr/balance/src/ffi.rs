//! The C interface; see include/gossip_balance.h.

use std::slice;

use crate::{Options, TaskGraph, rebalance};

/// All went well.
pub const OK: i32 = 0;
/// A pointer was null.
pub const NULL: i32 = -1;
/// The graph or the owners do not fit; nothing was changed.
pub const INVALID: i32 = -2;

/// Improves `owner` in place. Returns [`OK`], [`NULL`] or [`INVALID`].
///
/// # Safety
/// `offsets` must point to `tasks + 1` values, `neighbours` and `edge_weights` to `offsets[tasks]`,
/// `weights` and `owner` to `tasks`; `owner` must not overlap the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gossip_balance(
    tasks: usize,
    offsets: *const usize,
    neighbours: *const u32,
    edge_weights: *const f32,
    weights: *const f32,
    owner: *mut u32,
    parts: u32,
    tolerance: f64,
) -> i32 {
    let null = offsets.is_null()
        || neighbours.is_null()
        || edge_weights.is_null()
        || weights.is_null()
        || owner.is_null();
    if null {
        return NULL;
    }
    // SAFETY: not null, and the caller vouches for the length.
    let offsets = unsafe { slice::from_raw_parts(offsets, tasks + 1) };
    let edges = offsets[tasks];
    // SAFETY: as above.
    let neighbours = unsafe { slice::from_raw_parts(neighbours, edges) };
    // SAFETY: as above.
    let edge_weights = unsafe { slice::from_raw_parts(edge_weights, edges) };
    // SAFETY: as above.
    let weights = unsafe { slice::from_raw_parts(weights, tasks) };
    // SAFETY: as above; the caller vouches that nothing else refers to it.
    let owner = unsafe { slice::from_raw_parts_mut(owner, tasks) };
    if !(tolerance.is_finite() && tolerance >= 0.0) {
        return INVALID;
    }
    let graph = TaskGraph::new(
        offsets.to_vec(),
        neighbours.to_vec(),
        edge_weights.to_vec(),
        weights.to_vec(),
    );
    let options = Options {
        tolerance,
        ..Options::default()
    };
    match graph.and_then(|graph| rebalance(&graph, owner, parts, &options)) {
        Ok(_) => OK,
        Err(_) => INVALID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_balanced_and_nonsense_is_refused() {
        // Eight tasks in a row, all but one with the first part.
        let offsets = [0, 1, 3, 5, 7, 9, 11, 13, 14];
        let neighbours = [1, 0, 2, 1, 3, 2, 4, 3, 5, 4, 6, 5, 7, 6];
        let (edge_weights, weights) = ([1.0; 14], [1.0; 8]);
        let mut owner = [0, 0, 0, 0, 0, 0, 0, 1];
        let call = |owner: *mut u32, parts| {
            // SAFETY: the arrays have the lengths that the offsets say; `owner` is null or has 8.
            unsafe {
                gossip_balance(
                    8,
                    offsets.as_ptr(),
                    neighbours.as_ptr(),
                    edge_weights.as_ptr(),
                    weights.as_ptr(),
                    owner,
                    parts,
                    0.05,
                )
            }
        };
        assert_eq!(call(std::ptr::null_mut(), 2), NULL);
        assert_eq!(call(owner.as_mut_ptr(), 1), INVALID);
        assert_eq!(call(owner.as_mut_ptr(), 2), OK);
        assert_eq!(owner, [0, 0, 0, 0, 1, 1, 1, 1]);
    }
}
