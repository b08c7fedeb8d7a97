//! The C interface; see include/gossip_balance.h.

use std::ffi::{CStr, c_char};
use std::mem::size_of;
use std::slice;

use crate::{GraphError, Options, Summary, TaskGraph, rebalance};

/// All went well.
pub const OK: i32 = 0;
/// A pointer was null.
pub const NULL: i32 = -1;
/// The offsets do not ascend from 0.
pub const OFFSETS: i32 = -2;
/// A neighbour or an edge is wrong.
pub const EDGE: i32 = -3;
/// A task's weight is not positive.
pub const WEIGHT: i32 = -4;
/// An owner is no part.
pub const OWNER: i32 = -5;
/// An option is out of its range, or the options' size is not that of this version.
pub const OPTION: i32 = -6;

/// `struct gossip_balance_options`.
#[repr(C)]
pub struct COptions {
    size: usize,
    tolerance: f64,
    flow_threshold: f64,
    migration_price: f64,
    max_iterations: u32,
    refinement_passes: u32,
}

/// `struct gossip_balance_summary`.
#[repr(C)]
pub struct CSummary {
    selected: u64,
    refined: u64,
    iterations: u32,
}

impl From<Options> for COptions {
    fn from(options: Options) -> Self {
        Self {
            size: size_of::<Self>(),
            tolerance: options.tolerance,
            flow_threshold: options.flow_threshold,
            migration_price: options.migration_price,
            max_iterations: options.max_iterations,
            refinement_passes: options.refinement_passes,
        }
    }
}

impl From<&COptions> for Options {
    fn from(options: &COptions) -> Self {
        Self {
            tolerance: options.tolerance,
            flow_threshold: options.flow_threshold,
            max_iterations: options.max_iterations,
            refinement_passes: options.refinement_passes,
            migration_price: options.migration_price,
        }
    }
}

/// Writes the default options; does nothing if `options` is null.
///
/// # Safety
/// `options` must be null or point to memory of the options' size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gossip_balance_defaults(options: *mut COptions) {
    if !options.is_null() {
        // SAFETY: not null, and the caller vouches for the memory.
        unsafe { options.write(Options::default().into()) };
    }
}

/// What a status means, in a line; never null.
#[unsafe(no_mangle)]
pub extern "C" fn gossip_balance_message(status: i32) -> *const c_char {
    let text: &CStr = match status {
        OK => c"all went well",
        NULL => c"a pointer is null",
        OFFSETS => c"the offsets do not ascend from 0, or there are more than 2^32 tasks",
        EDGE => {
            c"a neighbour does not exist or is the task itself, or an edge has no positive weight or is not the same in the lists of both its ends"
        }
        WEIGHT => c"a task's weight is not a positive number",
        OWNER => c"the owner of a task is not below the number of parts",
        OPTION => {
            c"an option is out of its range, or the options were not set by gossip_balance_defaults"
        }
        _ => c"no status of gossip_balance",
    };
    text.as_ptr()
}

/// Improves `owner` in place. Returns [`OK`] or what is wrong; `owner` is unchanged then.
///
/// # Safety
/// `offsets` must point to `tasks + 1` values, `neighbours` and `edge_weights` to `offsets[tasks]`,
/// `weights` and `owner` to `tasks`; `owner` must not overlap the others. `options` and `summary` must
/// be null or point to one each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gossip_balance(
    tasks: usize,
    offsets: *const usize,
    neighbours: *const u32,
    edge_weights: *const f32,
    weights: *const f32,
    owner: *mut u32,
    parts: u32,
    options: *const COptions,
    summary: *mut CSummary,
) -> i32 {
    let null =
        offsets.is_null() || neighbours.is_null() || edge_weights.is_null() || weights.is_null() || owner.is_null();
    if null {
        return NULL;
    }
    // SAFETY: null, or the caller vouches for it.
    let options = match unsafe { options.as_ref() } {
        None => Options::default(),
        Some(options) if options.size == size_of::<COptions>() => options.into(),
        Some(_) => return OPTION,
    };
    // SAFETY: not null, and the caller vouches for the length.
    let offsets = unsafe { slice::from_raw_parts(offsets, tasks + 1) };
    if offsets[0] != 0 || !offsets.is_sorted() {
        return OFFSETS;
    }
    let edges = offsets[tasks];
    // SAFETY: as above.
    let neighbours = unsafe { slice::from_raw_parts(neighbours, edges) };
    // SAFETY: as above.
    let edge_weights = unsafe { slice::from_raw_parts(edge_weights, edges) };
    // SAFETY: as above.
    let weights = unsafe { slice::from_raw_parts(weights, tasks) };
    // SAFETY: as above; the caller vouches that nothing else refers to it.
    let owner = unsafe { slice::from_raw_parts_mut(owner, tasks) };
    let graph = TaskGraph::new(offsets.to_vec(), neighbours.to_vec(), edge_weights.to_vec(), weights.to_vec());
    let done = match graph.and_then(|graph| rebalance(&graph, owner, parts, &options)) {
        Ok(done) => done,
        Err(error) => return status(&error),
    };
    // SAFETY: null, or the caller vouches for it.
    if let Some(summary) = unsafe { summary.as_mut() } {
        let Summary { iterations, selected, refined } = done;
        *summary = CSummary { selected, refined, iterations };
    }
    OK
}

fn status(error: &GraphError) -> i32 {
    match error {
        GraphError::Offsets | GraphError::Length { .. } => OFFSETS,
        GraphError::Neighbour { .. } | GraphError::Edge(_) => EDGE,
        GraphError::Weight(_) => WEIGHT,
        GraphError::Part { .. } => OWNER,
        GraphError::Option(..) => OPTION,
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
        let (edge_weights, mut weights) = ([1.0; 14], [1.0; 8]);
        let mut owner = [0, 0, 0, 0, 0, 0, 0, 1];
        let call = |neighbours: &[u32; 14], weights: &[f32; 8], owner: *mut u32, parts, options| {
            // SAFETY: the arrays have the lengths that the offsets say; `owner` is null or has 8;
            // `options` is null or a reference.
            unsafe {
                gossip_balance(
                    8,
                    offsets.as_ptr(),
                    neighbours.as_ptr(),
                    edge_weights.as_ptr(),
                    weights.as_ptr(),
                    owner,
                    parts,
                    options,
                    std::ptr::null_mut(),
                )
            }
        };
        let (none, at) = (std::ptr::null(), owner.as_mut_ptr());
        assert_eq!(call(&neighbours, &weights, std::ptr::null_mut(), 2, none), NULL);
        assert_eq!(call(&neighbours, &weights, at, 1, none), OWNER);
        let mut wrong = neighbours;
        wrong[0] = 2;
        assert_eq!(call(&wrong, &weights, at, 2, none), EDGE);
        wrong[0] = 8;
        assert_eq!(call(&wrong, &weights, at, 2, none), EDGE);
        weights[3] = 0.0;
        assert_eq!(call(&neighbours, &weights, at, 2, none), WEIGHT);
        weights[3] = 1.0;
        let mut options: COptions = Options::default().into();
        options.tolerance = -1.0;
        assert_eq!(call(&neighbours, &weights, at, 2, &options), OPTION);
        options.tolerance = 0.05;
        options.size -= 1;
        assert_eq!(call(&neighbours, &weights, at, 2, &options), OPTION);
        assert_eq!(call(&neighbours, &weights, at, 2, none), OK);
        assert_eq!(owner, [0, 0, 0, 0, 1, 1, 1, 1]);
    }
}
