//! Four-level page tables (SDM vol. 3, 4.5), with 4 KiB and 2 MiB pages chosen by alignment.

/// Where tables live and come from.
pub trait Tables {
    fn read(&self, table: u64, index: usize) -> u64;
    fn write(&mut self, table: u64, index: usize, entry: u64);
    /// A zeroed table's physical address; `None` where no memory is left.
    fn allocate(&mut self) -> Option<u64>;
    /// Give a table back.
    fn free(&mut self, table: u64);
}

pub const PRESENT: u64 = 1;
pub const WRITABLE: u64 = 2;
pub const USER: u64 = 4;
/// Cache disable: device memory.
pub const UNCACHED: u64 = 1 << 4;
pub const LARGE: u64 = 1 << 7;
pub const NO_EXECUTE: u64 = 1 << 63;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Tables themselves allow everything; the last level decides.
const TABLE: u64 = PRESENT | WRITABLE | USER;
/// End of the user half.
pub const USER_END: u64 = 1 << 47;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

/// Bytes that one entry of a level spans (level 0: a page).
fn span(level: u32) -> u64 {
    PAGE << (9 * level)
}

/// Whether a change from one entry to another leaves translations that must not be used any more. (More rights need no
/// flush: the fault that a stale translation raises drops it, SDM vol. 3, 4.10.4.3.)
fn takes_away(old: u64, new: u64) -> bool {
    let lost = (old & !new & WRITABLE) | (!old & new & NO_EXECUTE);
    old & PRESENT != 0 && ((old ^ new) & (ADDRESS | LARGE) != 0 || lost != 0)
}

/// Map `[address, address + size)` to `[physical, ...)`. All page aligned, in the user half. `Ok(true)`: stale
/// translations must be flushed. On `NoMemory` no translation has changed; tables that were made stay.
///
/// A table of small pages stays where one is: freeing it would need a flush first.
pub fn map<T: Tables>(
    t: &mut T,
    root: u64,
    address: u64,
    physical: u64,
    size: u64,
    flags: u64,
) -> Result<bool, NoMemory> {
    if size > PAGE {
        return map_many(t, root, address, physical, size, flags);
    }
    // The commonest case, an answer to a page fault, goes straight.
    let mut table = root;
    for level in (1..4).rev() {
        let i = index(address, level);
        let entry = t.read(table, i);
        table = if entry & (PRESENT | LARGE) == PRESENT { entry & ADDRESS } else { descend(t, table, i, level)? };
    }
    Ok(put(t, table, address, physical | flags | PRESENT))
}

/// Write a page's entry; whether that takes something away.
fn put<T: Tables>(t: &mut T, table: u64, address: u64, new: u64) -> bool {
    let i = index(address, 0);
    let old = t.read(table, i);
    t.write(table, i, new);
    takes_away(old, new)
}

#[inline(never)]
fn map_many<T: Tables>(
    t: &mut T,
    root: u64,
    mut address: u64,
    mut physical: u64,
    mut size: u64,
    flags: u64,
) -> Result<bool, NoMemory> {
    // Within one table, memory is needed before the first entry is written.
    if address / LARGE_PAGE != (address + size - 1) / LARGE_PAGE {
        make_tables(t, root, address, physical, size)?;
    }
    let mut replaced = false;
    while size > 0 {
        let mut table = root;
        for level in (2..4).rev() {
            table = descend(t, table, index(address, level), level)?;
        }
        let i = index(address, 1);
        let old = t.read(table, i);
        let is_table = old & PRESENT != 0 && old & LARGE == 0;
        let step = if (address | physical) % LARGE_PAGE == 0 && size >= LARGE_PAGE && !is_table {
            let new = physical | flags | PRESENT | LARGE;
            replaced |= takes_away(old, new);
            t.write(table, i, new);
            LARGE_PAGE
        } else {
            let table = descend(t, table, i, 1)?;
            let end = (address + size).min((address & !(LARGE_PAGE - 1)) + LARGE_PAGE);
            for offset in (0..end - address).step_by(PAGE as usize) {
                replaced |= put(t, table, address + offset, (physical + offset) | flags | PRESENT);
            }
            end - address
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
        let mut table = root;
        for level in (2..4).rev() {
            table = descend(t, table, index(at, level), level)?;
        }
        let aligned = (at | (physical + (at - address))) % LARGE_PAGE == 0 && end - at >= LARGE_PAGE;
        if !aligned {
            descend(t, table, index(at, 1), 1)?;
        }
        at = (at & !(LARGE_PAGE - 1)) + LARGE_PAGE;
    }
    Ok(())
}

/// The table below entry `i` of a table at `level`, made where it is missing; a large page is split.
fn descend<T: Tables>(t: &mut T, table: u64, i: usize, level: u32) -> Result<u64, NoMemory> {
    let entry = t.read(table, i);
    if entry & PRESENT == 0 {
        return add(t, table, i);
    }
    if entry & LARGE != 0 && level == 1 {
        return split(t, table, i);
    }
    Ok(entry & ADDRESS)
}

#[inline(never)]
fn add<T: Tables>(t: &mut T, table: u64, i: usize) -> Result<u64, NoMemory> {
    let new = t.allocate().ok_or(NoMemory)?;
    t.write(table, i, new | TABLE);
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
    t.write(table, i, new | TABLE);
    Ok(new)
}

/// Take away every mapping in `[address, address + size)`. `Ok(true)`: something was mapped. Only splitting a large page
/// that reaches outside can need memory; on `NoMemory` nothing was taken away.
pub fn unmap<T: Tables>(t: &mut T, root: u64, address: u64, size: u64) -> Result<bool, NoMemory> {
    if size > PAGE {
        return unmap_many(t, root, address, size);
    }
    let mut table = root;
    for level in (1..4).rev() {
        let i = index(address, level);
        let entry = t.read(table, i);
        if entry & PRESENT == 0 {
            return Ok(false);
        }
        table = if level == 1 && entry & LARGE != 0 { split(t, table, i)? } else { entry & ADDRESS };
    }
    let i = index(address, 0);
    let found = t.read(table, i) & PRESENT != 0;
    t.write(table, i, 0);
    Ok(found)
}

#[inline(never)]
fn unmap_many<T: Tables>(t: &mut T, root: u64, address: u64, size: u64) -> Result<bool, NoMemory> {
    let end = address + size;
    // The page at the begin is split before anything else is done; that at the end must be, too.
    if end % LARGE_PAGE != 0 && address / LARGE_PAGE != end / LARGE_PAGE {
        split_at(t, root, end)?;
    }
    let mut at = address;
    let mut found = false;
    'next: while at < end {
        let mut table = root;
        for level in (0..4).rev() {
            let i = index(at, level);
            let entry = t.read(table, i);
            let next = (at & !(span(level) - 1)) + span(level);
            if entry & PRESENT == 0 {
                at = next;
                continue 'next;
            }
            if level == 0 || (level == 1 && entry & LARGE != 0) {
                if level == 1 && (at % LARGE_PAGE != 0 || next > end) {
                    table = split(t, table, i)?;
                    continue;
                }
                t.write(table, i, 0);
                found = true;
                at = next;
                continue 'next;
            }
            table = entry & ADDRESS;
        }
    }
    Ok(found)
}

/// Split the large page that an address lies in, where there is one.
fn split_at<T: Tables>(t: &mut T, root: u64, address: u64) -> Result<(), NoMemory> {
    let mut table = root;
    for level in (1..4).rev() {
        let entry = t.read(table, index(address, level));
        if entry & PRESENT == 0 {
            return Ok(());
        }
        if entry & LARGE != 0 {
            return split(t, table, index(address, level)).map(drop);
        }
        table = entry & ADDRESS;
    }
    Ok(())
}

/// Physical address and flags of a mapped address.
pub fn lookup<T: Tables>(t: &T, root: u64, address: u64) -> Option<(u64, u64)> {
    let mut table = root;
    for level in (0..4).rev() {
        let entry = t.read(table, index(address, level));
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || entry & LARGE != 0 {
            let offset = address & (span(level) - 1);
            return Some(((entry & ADDRESS & !(span(level) - 1)) + offset, entry & !ADDRESS));
        }
        table = entry & ADDRESS;
    }
    None
}

/// Take away every mapping of `memory` from address `from` on, reading at most some `entries` (four at least): `from` is
/// then where to go on, and in the end [`USER_END`]. True: something was mapped. (Ranges are aligned so that a large page lies
/// inside one or outside; see `map`.)
pub fn unmap_physical<T: Tables>(
    t: &mut T,
    root: u64,
    from: &mut u64,
    memory: &core::ops::Range<u64>,
    mut entries: usize,
) -> bool {
    let mut found = false;
    'next: while *from < USER_END {
        let mut table = root;
        for level in (0..4).rev() {
            let Some(left) = entries.checked_sub(1) else { return found };
            entries = left;
            let i = index(*from, level);
            let entry = t.read(table, i);
            let is_page = level == 0 || entry & LARGE != 0;
            if entry & PRESENT != 0 && !is_page {
                table = entry & ADDRESS;
                continue;
            }
            if entry & PRESENT != 0 && memory.contains(&(entry & ADDRESS)) {
                t.write(table, i, 0);
                found = true;
            }
            *from = (*from & !(span(level) - 1)) + span(level);
            continue 'next;
        }
    }
    found
}

/// What [`walk`] meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A table below the root, at this physical address.
    Table(u64),
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

fn walk_below<T: Tables>(t: &T, table: u64, level: u32, base: u64, visit: &mut impl FnMut(Met)) {
    for i in 0..if level == 3 { 256 } else { 512 } {
        let entry = t.read(table, i);
        if entry & PRESENT == 0 {
            continue;
        }
        let address = base + i as u64 * span(level);
        if level == 0 || entry & LARGE != 0 {
            visit(Met::Page { address, physical: entry & ADDRESS, bytes: span(level), flags: entry & !ADDRESS });
        } else {
            visit(Met::Table(entry & ADDRESS));
            walk_below(t, entry & ADDRESS, level - 1, address, visit);
        }
    }
}

/// Give back tables of the user half below `root` (not `root` itself), at most so many. True: there are no more.
pub fn free_user_tables<T: Tables>(t: &mut T, root: u64, mut at_most: usize) -> bool {
    free_below(t, root, 3, 256, &mut at_most)
}

fn free_below<T: Tables>(t: &mut T, table: u64, level: u32, entries: usize, left: &mut usize) -> bool {
    for i in 0..entries {
        let entry = t.read(table, i);
        if entry & PRESENT == 0 || (level == 1 && entry & LARGE != 0) {
            continue;
        }
        if level > 1 && !free_below(t, entry & ADDRESS, level - 1, 512, left) {
            return false;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        t.write(table, i, 0);
        t.free(entry & ADDRESS);
    }
    true
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
        fn free(&mut self, table: u64) {
            assert!(self.tables.remove(&table).is_some(), "freed twice");
            self.left += 1;
        }
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
                found |= unmap_physical(t, root, &mut from, &(0x40_0000..0x60_1000), 100);
                calls += 1;
            }
            assert!(calls > 10, "{calls} calls of at most 100 entries read more than a thousand");
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
    fn all_tables_come_back() {
        let (mut t, root) = Fake::new(100);
        for i in 0..10 {
            map(&mut t, root, i << 39, i << 30, 0x40_1000, RW).unwrap();
        }
        for left in [77, 84, 91, 98] {
            assert!(!free_user_tables(&mut t, root, 7));
            assert_eq!(t.left, left);
        }
        assert!(free_user_tables(&mut t, root, 7));
        assert_eq!(t.left, 100);
    }

    #[test]
    fn a_walk_meets_every_table_and_page_once() {
        let (mut t, root) = Fake::new(100);
        map(&mut t, root, 0x1f_f000, 0x9f_f000, 0x20_1000, RW).unwrap();
        map(&mut t, root, 0x7fff_ffff_f000, 0x5000, 0x1000, USER).unwrap();
        let (mut tables, mut pages) = (vec![root], Vec::new());
        walk(&t, root, &mut |met| match met {
            Met::Table(table) => tables.push(table),
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
            for page in (0..3072).step_by(if cfg!(miri) { 16 } else { 1 }) {
                let a = page * PAGE;
                assert_eq!(lookup(&t, root, a).map(|(p, _)| p), model.get(&a).copied(), "{a:x}");
            }
        }
    }
}
