//! Four-level page tables (SDM vol. 3, 4.5), with 4 KiB and 2 MiB pages chosen by alignment.
//!
//! No table in the tree is empty: the entry that names a table counts the present entries in it (in bits that the processor
//! ignores), and with the last of them the table is detached. So whoever reads all tables reads no more than there is.

#[cfg(any(test, feature = "check"))]
mod check;

use core::ops::Range;

#[cfg(any(test, feature = "check"))]
pub use check::{Met, lookup, walk};

/// Where tables live and come from.
pub trait Tables {
    fn read(&self, table: u64, index: usize) -> u64;
    fn write(&mut self, table: u64, index: usize, entry: u64);
    /// A zeroed table's physical address; `None` where no memory is left.
    fn allocate(&mut self) -> Option<u64>;
    /// No entry names this table any more. Cores may still walk through it until they are told to flush: only then it can be
    /// given back. It need not be empty.
    fn detach(&mut self, table: u64);
}

pub const PRESENT: u64 = 1;
pub const WRITABLE: u64 = 2;
pub const USER: u64 = 4;
/// Cache disable: device memory.
pub const UNCACHED: u64 = 1 << 4;
pub const LARGE: u64 = 1 << 7;
pub const NO_EXECUTE: u64 = 1 << 63;

/// A page's entry: who made it, as the caller of [`map`] says; and a table's: how many entries of it are present. The processor
/// ignores bits 52 to 58 of the one, 52 to 62 of the other.
const TAG_SHIFT: u32 = 52;
/// Largest tag of a page.
pub const MAX_TAG: u8 = 127;
const ONE_ENTRY: u64 = 1 << TAG_SHIFT;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Tables themselves allow everything; the last level decides.
const TABLE: u64 = PRESENT | WRITABLE | USER;
/// End of the user half.
pub const USER_END: u64 = 1 << 47;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// The flags that give a page a tag, the largest where it is too large.
pub fn tag(tag: u32) -> u64 {
    u64::from(tag.min(u32::from(MAX_TAG))) << TAG_SHIFT
}

fn index(address: u64, level: usize) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

/// Bytes that one entry of a level spans (level 0: a page).
fn span(level: usize) -> u64 {
    PAGE << (9 * level)
}

/// Where the entry after that of `address` begins.
fn next(address: u64, level: usize) -> u64 {
    (address & !(span(level) - 1)) + span(level)
}

/// The tables on the way to an address, by level: 0 is one of small pages, 3 the root.
type Path = [u64; 4];

/// The tables on the way to an address, as far down as there are any; the level of the last one; and its entry for the address.
fn path_to<T: Tables>(t: &T, root: u64, address: u64) -> (Path, usize, u64) {
    let mut path = [0, 0, 0, root];
    let mut level = 3;
    loop {
        let entry = t.read(path[level], index(address, level));
        if level == 0 || entry & PRESENT == 0 || entry & LARGE != 0 {
            return (path, level, entry);
        }
        level -= 1;
        path[level] = entry & ADDRESS;
    }
}

/// Entries of the table at `level` became present.
fn came<T: Tables>(t: &mut T, path: &Path, address: u64, level: usize, entries: u64) {
    if level < 3 {
        let (above, i) = (path[level + 1], index(address, level + 1));
        let entry = t.read(above, i);
        t.write(above, i, entry + entries * ONE_ENTRY);
    }
}

/// Entries of the table at `level` are no longer present. True: they were the last, and the table is detached, and those above
/// it that became empty by that.
fn went<T: Tables>(t: &mut T, path: &Path, address: u64, level: usize, entries: u64) -> bool {
    if level == 3 {
        return false;
    }
    let (above, i) = (path[level + 1], index(address, level + 1));
    let entry = t.read(above, i) - entries * ONE_ENTRY;
    let empty = entry < ONE_ENTRY;
    if empty {
        collapse(t, path, address, level)
    } else {
        t.write(above, i, entry)
    }
    empty
}

/// Detach the table at `level`, and those above it that become empty by that.
#[inline(never)]
fn collapse<T: Tables>(t: &mut T, path: &Path, address: u64, level: usize) {
    t.write(path[level + 1], index(address, level + 1), 0);
    t.detach(path[level]);
    went(t, path, address, level + 1, 1);
}

/// Whether a change from one entry to another leaves translations that must not be used any more. (More rights need no
/// flush: the fault that a stale translation raises drops it, SDM vol. 3, 4.10.4.3.)
fn takes_away(old: u64, new: u64) -> bool {
    let lost = (old & !new & WRITABLE) | (!old & new & NO_EXECUTE);
    old & PRESENT != 0 && ((old ^ new) & (ADDRESS | LARGE) != 0 || lost != 0)
}

/// Map one page where its table is there: the commonest case, an answer to a page fault. `Some(true)`: a stale translation must
/// be flushed. `None`: nothing was done, it takes [`map`].
#[inline(always)]
pub fn map_one<T: Tables>(t: &mut T, root: u64, address: u64, physical: u64, flags: u64) -> Option<bool> {
    let [above, table, entry] = lowest(t, root, address)?;
    let i = index(address, 0);
    let (old, new) = (t.read(table, i), physical | flags | PRESENT);
    t.write(table, i, new);
    if old & PRESENT == 0 {
        t.write(above, index(address, 1), entry + ONE_ENTRY);
    }
    Some(takes_away(old, new))
}

/// Take one page away that is there and not the last in its table; its translation must be flushed. False: nothing was done, it
/// takes [`unmap`].
#[inline(always)]
pub fn unmap_one<T: Tables>(t: &mut T, root: u64, address: u64) -> bool {
    let Some([above, table, entry]) = lowest(t, root, address) else { return false };
    let i = index(address, 0);
    if entry < 2 * ONE_ENTRY || t.read(table, i) & PRESENT == 0 {
        return false;
    }
    t.write(table, i, 0);
    t.write(above, index(address, 1), entry - ONE_ENTRY);
    true
}

/// The table of small pages that has an address, if there is one: the table above it, itself, and the entry that names it.
#[inline(always)]
fn lowest<T: Tables>(t: &T, root: u64, address: u64) -> Option<[u64; 3]> {
    let (mut table, mut above, mut entry) = (root, 0, 0);
    for level in (1..4).rev() {
        entry = t.read(table, index(address, level));
        if entry & PRESENT == 0 {
            return None;
        }
        (above, table) = (table, entry & ADDRESS);
    }
    if entry & LARGE != 0 { None } else { Some([above, table, entry]) }
}

/// Map `[address, address + size)` to `[physical, ...)`. All page aligned, in the user half. `Ok(true)`: stale
/// translations must be flushed. On `NoMemory` no translation has changed, and no table has come.
///
/// A table of small pages stays where one is, also under a large page's worth of memory.
#[inline(never)]
pub fn map<T: Tables>(
    t: &mut T,
    root: u64,
    mut address: u64,
    mut physical: u64,
    mut size: u64,
    flags: u64,
) -> Result<bool, NoMemory> {
    // What needs memory comes before the first entry is written.
    make_tables(t, root, address, physical, size).inspect_err(|_| prune(t, root, address..address + size))?;
    let mut replaced = false;
    while size > 0 {
        let (path, level, old) = path_to(t, root, address);
        let step = if level == 0 {
            let step = size.min(next(address, 1) - address);
            let mut new_entries = 0;
            for offset in (0..step).step_by(PAGE as usize) {
                let (i, new) = (index(address + offset, 0), (physical + offset) | flags | PRESENT);
                let old = t.read(path[0], i);
                t.write(path[0], i, new);
                new_entries += u64::from(old & PRESENT == 0);
                replaced |= takes_away(old, new);
            }
            came(t, &path, address, 0, new_entries);
            step
        } else {
            let new = physical | flags | PRESENT | LARGE;
            t.write(path[1], index(address, 1), new);
            if old & PRESENT == 0 {
                came(t, &path, address, 1, 1);
            }
            replaced |= takes_away(old, new);
            LARGE_PAGE
        };
        address += step;
        physical += step;
        size -= step;
    }
    Ok(replaced)
}

/// Make every table that a mapping needs.
fn make_tables<T: Tables>(t: &mut T, root: u64, address: u64, physical: u64, size: u64) -> Result<(), NoMemory> {
    let end = address + size;
    let mut at = address;
    while at < end {
        let mut path = [0, 0, 0, root];
        for level in (2..4).rev() {
            path[level - 1] = descend(t, &path, at, level)?;
        }
        let aligned = (at | (physical + (at - address))) % LARGE_PAGE == 0 && end - at >= LARGE_PAGE;
        if !aligned {
            descend(t, &path, at, 1)?;
        }
        at = next(at, 1);
    }
    Ok(())
}

/// The table below the one at `level`, made where it is missing; a large page is split.
fn descend<T: Tables>(t: &mut T, path: &Path, address: u64, level: usize) -> Result<u64, NoMemory> {
    let entry = t.read(path[level], index(address, level));
    if entry & LARGE != 0 {
        return split(t, path[level], index(address, level));
    }
    if entry & PRESENT != 0 {
        return Ok(entry & ADDRESS);
    }
    let new = t.allocate().ok_or(NoMemory)?;
    t.write(path[level], index(address, level), new | TABLE);
    came(t, path, address, level, 1);
    Ok(new)
}

/// Replace a 2 MiB page by a table of 4 KiB pages with the same translation.
#[inline(never)]
fn split<T: Tables>(t: &mut T, table: u64, i: usize) -> Result<u64, NoMemory> {
    let entry = t.read(table, i);
    let new = t.allocate().ok_or(NoMemory)?;
    let (base, flags) = (entry & ADDRESS & !(LARGE_PAGE - 1), entry & !ADDRESS & !LARGE);
    for j in 0..512 {
        t.write(new, j, base + j as u64 * PAGE | flags);
    }
    t.write(table, i, new | TABLE | 512 * ONE_ENTRY);
    Ok(new)
}

/// After a mapping for which memory ran out: detach the tables that it made, which are empty.
#[cold]
fn prune<T: Tables>(t: &mut T, root: u64, span: Range<u64>) {
    let mut at = span.start;
    while at < span.end {
        let (path, level, _) = path_to(t, root, at);
        if level < 3 && t.read(path[level + 1], index(at, level + 1)) < ONE_ENTRY {
            collapse(t, &path, at, level);
        }
        at = next(at, level.max(1));
    }
}

/// Take every mapping of a part of `span` away, so that one call reads about so many `entries` (one at least); what is left is
/// then `span`. True: something was mapped. Only splitting large pages that reach outside can need memory, which the first call
/// does: on `NoMemory` nothing was taken away, and the calls that go on need none.
#[inline(never)]
pub fn unmap<T: Tables>(t: &mut T, root: u64, span: &mut Range<u64>, entries: usize) -> Result<bool, NoMemory> {
    split_at(t, root, span.start)?;
    split_at(t, root, span.end)?;
    // The table that `span` ends in first: then no other is left in which only a part goes, but the first.
    let mut last = span.start.max(span.end & !(LARGE_PAGE - 1));
    let end = core::mem::replace(&mut span.end, last);
    let mut found = take(t, root, &mut last, end, entries, None);
    found |= take(t, root, &mut span.start, span.end, entries, None);
    Ok(found)
}

/// Split the large page that an address lies inside, where there is one.
fn split_at<T: Tables>(t: &mut T, root: u64, address: u64) -> Result<(), NoMemory> {
    let (path, level, entry) = path_to(t, root, address);
    if address % LARGE_PAGE != 0 && level > 0 && entry & PRESENT != 0 {
        split(t, path[level], index(address, level))?;
    }
    Ok(())
}

/// Take every page of `memory` away whose tag is at least `tag`, from address `from` on, reading about so many `entries`: `from`
/// is then where to go on, and in the end [`USER_END`]. True: something was mapped. (Ranges are aligned so that a large page
/// lies inside one or outside; see `map`.)
pub fn unmap_physical<T: Tables>(
    t: &mut T,
    root: u64,
    from: &mut u64,
    memory: &Range<u64>,
    tag: u8,
    entries: usize,
) -> bool {
    let tag_of = |entry: u64| (entry >> TAG_SHIFT) as u8 & MAX_TAG;
    let goes = |entry| memory.contains(&(entry & ADDRESS)) && tag_of(entry) >= tag;
    take(t, root, from, USER_END, entries, Some(&goes))
}

/// Take the pages away that `goes` (None: all, and no large page reaches outside), from `*from` on and below `end`. It stops
/// at a border of 2 MiB once it has read so many entries, and then at the next border of tables at the latest.
fn take<T: Tables>(
    t: &mut T,
    root: u64,
    from: &mut u64,
    end: u64,
    mut entries: usize,
    goes: Option<&dyn Fn(u64) -> bool>,
) -> bool {
    /// Detaching a table, and giving it back later, is as much work as reading some entries.
    const DETACH: usize = 8;
    let mut found = false;
    while *from < end && entries > 0 {
        // To the lowest table that has the address, then along it.
        let mut path = [0, 0, 0, root];
        let mut level = 3;
        while *from < end {
            let i = index(*from, level);
            let entry = t.read(path[level], i);
            entries = entries.saturating_sub(1);
            let is_page = level == 0 || entry & LARGE != 0;
            let whole = goes.is_none() && level == 1 && *from % LARGE_PAGE == 0 && end - *from >= LARGE_PAGE;
            let mut detached = false;
            if entry & PRESENT != 0 {
                if !is_page && !whole {
                    level -= 1;
                    path[level] = entry & ADDRESS;
                    continue;
                }
                if goes.is_none_or(|goes| goes(entry)) {
                    found = true;
                    t.write(path[level], i, 0);
                    if !is_page {
                        t.detach(entry & ADDRESS);
                        entries = entries.saturating_sub(DETACH);
                    }
                    detached = went(t, &path, *from, level, 1);
                }
            }
            *from = next(*from, level);
            let is_last = i == if level == 3 { 255 } else { 511 };
            if detached || is_last || (entries == 0 && level > 0) {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Fake {
        tables: BTreeMap<u64, [u64; 512]>,
        next: u64,
        left: usize,
    }

    impl Fake {
        fn new(left: usize) -> (Self, u64) {
            let mut f = Self { tables: BTreeMap::new(), next: 0x1000, left: left + 1 };
            let root = f.allocate().unwrap();
            (f, root)
        }
    }

    impl Tables for Fake {
        fn read(&self, table: u64, index: usize) -> u64 {
            self.tables[&table][index]
        }
        fn write(&mut self, table: u64, index: usize, entry: u64) {
            self.tables.get_mut(&table).unwrap()[index] = entry;
        }
        fn allocate(&mut self) -> Option<u64> {
            self.left = self.left.checked_sub(1)?;
            let a = self.next;
            self.next += PAGE;
            self.tables.insert(a, [0; 512]);
            Some(a)
        }
        /// (Gone at once: who looks at it once more is found.)
        fn detach(&mut self, table: u64) {
            assert!(self.tables.remove(&table).is_some(), "detached twice");
            self.left += 1;
        }
    }

    /// All of it, a call after the other.
    fn unmap(t: &mut Fake, root: u64, address: u64, size: u64) -> Result<bool, NoMemory> {
        let mut span = address..address + size;
        let mut found = false;
        while !span.is_empty() {
            found |= super::unmap(t, root, &mut span, 600)?;
        }
        Ok(found)
    }

    /// No table is empty, and each entry says how many entries its table has.
    fn check(t: &Fake, root: u64) {
        let mut seen = 1;
        walk(t, root, &mut |met| {
            let Met::Table { table, entries } = met else { return };
            let present = t.tables[&table].iter().filter(|&&entry| entry & PRESENT != 0).count();
            assert_eq!(present as u64, entries);
            assert!(present > 0, "an empty table");
            seen += 1;
        });
        assert_eq!(seen, t.tables.len(), "a table got lost");
    }

    const RW: u64 = USER | WRITABLE;

    #[test]
    fn page_sizes_follow_alignment() {
        let (mut t, root) = Fake::new(10);
        map(&mut t, root, 0x1f_f000, 0x9f_f000, 0x40_2000, RW).unwrap();
        for (va, large) in [(0x1f_f000, false), (0x20_0000, true), (0x40_0000, true), (0x60_0000, false)] {
            let (pa, flags) = lookup(&t, root, va + 0x123).unwrap();
            assert_eq!(pa, va + 0x80_0000 + 0x123);
            assert_eq!(flags & LARGE != 0, large, "{va:x}");
        }
        assert_eq!(lookup(&t, root, 0x1f_e000), None);
        assert_eq!(lookup(&t, root, 0x60_1000), None);
    }

    #[test]
    fn unmapping_a_part_splits_a_large_page() {
        let (mut t, root) = Fake::new(10);
        map(&mut t, root, 0x20_0000, 0x20_0000, 0x20_0000, RW | NO_EXECUTE).unwrap();
        assert_eq!(unmap(&mut t, root, 0x20_1000, 0x1000), Ok(true));
        assert_eq!(lookup(&t, root, 0x20_1000), None);
        let (pa, flags) = lookup(&t, root, 0x20_2000).unwrap();
        assert_eq!((pa, flags & (NO_EXECUTE | WRITABLE | LARGE)), (0x20_2000, NO_EXECUTE | WRITABLE));
    }

    #[test]
    fn replacing_is_reported_and_absence_too() {
        let (mut t, root) = Fake::new(10);
        assert_eq!(map(&mut t, root, 0x5000, 0x1000, 0x1000, RW), Ok(false));
        assert_eq!(map(&mut t, root, 0x5000, 0x1000, 0x1000, RW), Ok(false), "the same again");
        assert_eq!(map(&mut t, root, 0x5000, 0x1000, 0x1000, USER), Ok(true), "no longer writable");
        assert_eq!(map(&mut t, root, 0x5000, 0x1000, 0x1000, RW), Ok(false), "writable again");
        assert_eq!(map(&mut t, root, 0x5000, 0x2000, 0x1000, RW), Ok(true));
        assert_eq!(lookup(&t, root, 0x5000).unwrap().0, 0x2000);
        assert_eq!(unmap(&mut t, root, 0x6000, USER_END - 0x6000), Ok(false));
        assert_eq!(unmap(&mut t, root, 0, USER_END), Ok(true));
        assert_eq!(unmap(&mut t, root, 0, USER_END), Ok(false));
    }

    #[test]
    fn a_large_mapping_over_small_pages_keeps_their_table() {
        let (mut t, root) = Fake::new(3);
        map(&mut t, root, 0x20_3000, 0x1000, 0x1000, RW).unwrap();
        assert_eq!(map(&mut t, root, 0x20_0000, 0x40_0000, 0x20_0000, RW), Ok(true));
        assert_eq!(lookup(&t, root, 0x20_3000).unwrap().0, 0x40_3000);
        assert_eq!(lookup(&t, root, 0x3f_f000).unwrap().0, 0x5f_f000);
        assert_eq!(t.left, 0);
        assert_eq!(unmap(&mut t, root, 0x20_0000, 0x20_0000), Ok(true));
        assert_eq!(t.left, 3);
    }

    #[test]
    fn one_page_goes_straight_where_its_table_stays() {
        let (mut t, root) = Fake::new(10);
        let lookup = |t: &Fake, at| lookup(t, root, at).map(|(physical, _)| physical);
        assert_eq!(map_one(&mut t, root, 0x5000, 0x1000, RW), None, "no table");
        map(&mut t, root, 0x5000, 0x1000, PAGE, RW).unwrap();
        assert!(!unmap_one(&mut t, root, 0x5000), "the last");
        assert!(!unmap_one(&mut t, root, 0x6000), "none there");
        assert_eq!(map_one(&mut t, root, 0x6000, 0x2000, RW), Some(false));
        assert_eq!(map_one(&mut t, root, 0x6000, 0x3000, RW), Some(true));
        check(&t, root);
        assert_eq!(lookup(&t, 0x6000), Some(0x3000));
        assert!(unmap_one(&mut t, root, 0x5000));
        check(&t, root);
        assert_eq!(lookup(&t, 0x5000), None);
        map(&mut t, root, 0x20_0000, 0x20_0000, LARGE_PAGE, RW).unwrap();
        assert_eq!(map_one(&mut t, root, 0x20_1000, 0x1000, RW), None, "a large page");
        assert!(!unmap_one(&mut t, root, 0x20_1000), "a large page");
        assert_eq!(lookup(&t, 0x20_1000), Some(0x20_1000));
    }

    #[test]
    fn a_table_goes_with_its_last_page() {
        let (mut t, root) = Fake::new(20);
        let far = 0x7000_0000_0000;
        for (at, size) in [(0x5000, 0x2000), (0x1f_f000, 0x2000), (0x4000_0000, 0x20_0000), (far, 0x1000)] {
            map(&mut t, root, at, at, size, RW).unwrap();
            check(&t, root);
        }
        assert_eq!(t.left, 20 - 8);
        for (at, left) in [(0x5000, 12), (0x6000, 12), (0x1f_f000, 13), (0x20_0000, 15), (far, 18)] {
            assert_eq!(unmap(&mut t, root, at, PAGE), Ok(true));
            assert_eq!(unmap(&mut t, root, at, PAGE), Ok(false));
            check(&t, root);
            assert_eq!(t.left, left, "{at:x}");
        }
        assert_eq!(unmap(&mut t, root, 0x4000_0000, 0x20_0000), Ok(true));
        assert_eq!(t.left, 20);
    }

    #[test]
    fn a_mapping_that_fails_leaves_no_table() {
        for (at, size) in [(0x5000, 0x1000), (0x5000, 0x2000), (0x3fff_f000, 0x2000), (0x20_0000, 0x80_1000)] {
            for left in 0..3 {
                let (mut t, root) = Fake::new(left);
                assert_eq!(map(&mut t, root, at, 0x1000, size, RW), Err(NoMemory));
                assert_eq!(t.left, left, "{at:x}, {size:x}");
                check(&t, root);
            }
        }
    }

    /// What is read does not depend on how large the span is.
    #[test]
    fn unmapping_all_reads_what_is_there() {
        struct Counting(Fake, std::cell::Cell<usize>);
        impl Tables for Counting {
            fn read(&self, table: u64, index: usize) -> u64 {
                self.1.set(self.1.get() + 1);
                self.0.read(table, index)
            }
            fn write(&mut self, table: u64, index: usize, entry: u64) {
                self.0.write(table, index, entry);
            }
            fn allocate(&mut self) -> Option<u64> {
                self.0.allocate()
            }
            fn detach(&mut self, table: u64) {
                self.0.detach(table);
            }
        }
        let (mut t, root) = Fake::new(10_000);
        let many = if cfg!(miri) { 50 } else { 1000 };
        for i in 0..many {
            map(&mut t, root, i << 21, 0x5000, 0x1000, RW).unwrap();
        }
        for i in 0..many - 1 {
            unmap(&mut t, root, i << 21, PAGE).unwrap();
        }
        let mut t = Counting(t, 0.into());
        assert_eq!(super::unmap(&mut t, root, &mut (0..USER_END), 5000), Ok(true));
        assert!(t.1.get() < 3000, "{} entries of four tables", t.1.get());
        assert_eq!(t.0.left, 10_000);
    }

    /// Each call does a bounded part, and only the first can need memory.
    #[test]
    fn unmapping_goes_in_parts() {
        let (mut t, root) = Fake::new(100);
        map(&mut t, root, 0x1000, 0x3000, 8 * LARGE_PAGE, RW).unwrap();
        map(&mut t, root, 20 * LARGE_PAGE, 0, 2 * LARGE_PAGE, RW).unwrap();
        let mut span = 0x2000..21 * LARGE_PAGE + 0x1000;
        let mut calls = 0;
        while !span.is_empty() {
            assert_eq!(super::unmap(&mut t, root, &mut span, 20), Ok(true));
            check(&t, root);
            t.left = 0;
            calls += 1;
        }
        assert!(calls > 4);
        assert!(lookup(&t, root, 0x1000).is_some());
        assert_eq!(lookup(&t, root, 0x2000), None);
        assert_eq!(lookup(&t, root, 21 * LARGE_PAGE), None);
        assert!(lookup(&t, root, 21 * LARGE_PAGE + 0x1000).is_some());
    }

    #[test]
    fn pages_of_a_smaller_tag_stay() {
        let (mut t, root) = Fake::new(10);
        for (i, tag_value) in [0, 1, 2, 127, 255].into_iter().enumerate() {
            map(&mut t, root, i as u64 * PAGE, 0x5000, 0x1000, RW | tag(tag_value)).unwrap();
        }
        let mut from = 0;
        while from < USER_END {
            unmap_physical(&mut t, root, &mut from, &(0x5000..0x6000), 2, 100);
        }
        let left: Vec<bool> = (0..5).map(|i| lookup(&t, root, i * PAGE).is_some()).collect();
        assert_eq!(left, [true, true, false, false, false]);
        check(&t, root);
    }

    /// Memory ends at each possible place of a change of small pages, large pages and holes: all or nothing.
    #[test]
    fn a_change_that_runs_out_of_memory_changes_nothing() {
        type Change = fn(&mut Fake, u64) -> Result<bool, NoMemory>;
        let changes: [(Change, usize); 3] = [
            (|t, root| map(t, root, 0x1f_f000, (1 << 30) + 0x1f_f000, 0xa0_2000, RW), 2), // tables at both ends
            (|t, root| map(t, root, 0x20_1000, 0, 0x80_0000, RW), 4),                     // splits two, makes two
            (|t, root| unmap(t, root, 0x20_1000, 0x3f_e000), 2),
        ];
        for (change, tables) in changes {
            for left in 0..=tables {
                let (mut t, root) = Fake::new(100);
                map(&mut t, root, 0x20_0000, 0x80_0000, 0x40_0000, USER).unwrap();
                map(&mut t, root, 0x80_5000, 0x5000, 0x1000, USER).unwrap();
                let pages = |t: &Fake| {
                    let page = |at| lookup(t, root, at).map(|(physical, flags)| (physical, flags & !LARGE));
                    (0..0xe0_0000)
                        .step_by(PAGE as usize * if cfg!(miri) { 64 } else { 1 })
                        .map(page)
                        .collect::<Vec<_>>()
                };
                let before = pages(&t);
                t.left = left;
                assert_eq!(change(&mut t, root).is_ok(), left == tables);
                assert_eq!(pages(&t) == before, left < tables, "{left} of {tables} tables");
            }
        }
    }

    #[test]
    fn memory_that_ends_is_unmapped_wherever_it_was() {
        let (mut t, root) = Fake::new(20);
        map(&mut t, root, 0x5000, 0x40_0000, 0x20_1000, RW).unwrap();
        map(&mut t, root, 0x7000_0000_0000, 0x40_0000, 0x20_0000, RW).unwrap();
        map(&mut t, root, 0x60_0000, 0x80_0000, 0x1000, RW).unwrap();
        let end = |t: &mut Fake| {
            let (mut from, mut found, mut calls) = (0, false, 0);
            while from < USER_END {
                found |= unmap_physical(t, root, &mut from, &(0x40_0000..0x60_1000), 0, 100);
                check(t, root);
                calls += 1;
            }
            assert!(calls > 3, "{calls} calls of some 100 entries read many hundreds");
            found
        };
        assert!(end(&mut t));
        assert_eq!(lookup(&t, root, 0x5000), None);
        assert_eq!(lookup(&t, root, 0x20_5000), None);
        assert_eq!(lookup(&t, root, 0x7000_0000_0000), None);
        assert_eq!(lookup(&t, root, 0x60_0000).unwrap().0, 0x80_0000);
        assert!(!end(&mut t));
    }

    #[test]
    fn a_walk_meets_every_table_and_page_once() {
        let (mut t, root) = Fake::new(100);
        map(&mut t, root, 0x1f_f000, 0x9f_f000, 0x20_1000, RW).unwrap();
        map(&mut t, root, 0x7fff_ffff_f000, 0x5000, 0x1000, USER).unwrap();
        let (mut tables, mut pages) = (vec![root], Vec::new());
        walk(&t, root, &mut |met| match met {
            Met::Table { table, .. } => tables.push(table),
            Met::Page { address, physical, bytes, .. } => pages.push((address, physical, bytes)),
        });
        assert_eq!(
            pages,
            [(0x1f_f000, 0x9f_f000, 0x1000), (0x20_0000, 0xa0_0000, 0x20_0000), (0x7fff_ffff_f000, 0x5000, 0x1000)]
        );
        tables.sort_unstable();
        assert!(tables.iter().eq(t.tables.keys()));
    }

    /// Random maps and unmaps agree with a plain list of pages.
    #[test]
    fn agrees_with_a_model() {
        let (mut t, root) = Fake::new(1000);
        let mut model = BTreeMap::new();
        let mut random = fastrand::Rng::with_seed(12345);
        for _ in 0..if cfg!(miri) { 4 } else { 400 } {
            let va = random.u64(..2048) * PAGE;
            let size = (random.u64(..1024) + 1) * PAGE;
            if random.bool() {
                let pa = if random.bool() { va + (64 << 20) } else { random.u64(..4096) * PAGE };
                let stale = (0..size).step_by(4096).any(|o| model.get(&(va + o)).is_some_and(|&p| p != pa + o));
                let flush = map(&mut t, root, va, pa, size, RW).unwrap();
                assert!(flush || !stale);
                (0..size).step_by(4096).for_each(|o| {
                    model.insert(va + o, pa + o);
                });
            } else {
                let before = (va..va + size).step_by(4096).any(|a| model.contains_key(&a));
                assert_eq!(unmap(&mut t, root, va, size), Ok(before));
                (0..size).step_by(4096).for_each(|o| {
                    model.remove(&(va + o));
                });
            }
            check(&t, root);
            for page in (0..3072).step_by(if cfg!(miri) { 16 } else { 1 }) {
                let a = page * PAGE;
                assert_eq!(lookup(&t, root, a).map(|(p, _)| p), model.get(&a).copied(), "{a:x}");
            }
        }
    }
}
