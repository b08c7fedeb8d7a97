//! What the kernel's check of all invariants and tests see of page tables.

use super::{ADDRESS, LARGE, PRESENT, TAG_SHIFT, Tables, path_to, span};

/// Physical address and flags of a mapped address.
pub fn lookup<T: Tables>(t: &T, root: u64, address: u64) -> Option<(u64, u64)> {
    let (_, level, entry) = path_to(t, root, address);
    let offset = address & (span(level) - 1);
    (entry & PRESENT != 0).then(|| ((entry & ADDRESS & !(span(level) - 1)) + offset, entry & !ADDRESS))
}

/// What [`walk`] meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A table below the root, at this physical address, and how many entries it is said to have.
    Table {
        table: u64,
        entries: u64,
    },
    Page {
        address: u64,
        physical: u64,
        bytes: u64,
        flags: u64,
    },
}

/// Visit all tables and pages of the user half below `root`, each table before what is in it.
pub fn walk<T: Tables>(t: &T, root: u64, visit: &mut impl FnMut(Met)) {
    walk_below(t, root, 3, 0, visit);
}

fn walk_below<T: Tables>(t: &T, table: u64, level: usize, base: u64, visit: &mut impl FnMut(Met)) {
    for i in 0..if level == 3 { 256 } else { 512 } {
        let entry = t.read(table, i);
        if entry & PRESENT == 0 {
            continue;
        }
        let address = base + i as u64 * span(level);
        if level == 0 || entry & LARGE != 0 {
            visit(Met::Page { address, physical: entry & ADDRESS, bytes: span(level), flags: entry & !ADDRESS });
        } else {
            visit(Met::Table { table: entry & ADDRESS, entries: entry >> TAG_SHIFT });
            walk_below(t, entry & ADDRESS, level - 1, address, visit);
        }
    }
}
