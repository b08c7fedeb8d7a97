//! Which physical memory is free: regions of RAM less what is taken.

use core::ops::Range;

use arrayvec::ArrayVec;

use crate::bytes::{u32_at, u64_at};

const PAGE: u64 = 4096;

/// Most free regions that are kept; the smallest are given up first.
pub const MAX_REGIONS: usize = 16;

/// One line of a boot loader's memory map, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub span: Range<u64>,
    /// RAM that nobody has a claim on; all else is reserved, broken or a device.
    pub usable: bool,
}

impl Entry {
    /// From address and length as loaders give them; a length beyond the end of the address space ends there.
    pub fn new(address: u64, bytes: u64, usable: bool) -> Self {
        Self { span: address..address.saturating_add(bytes), usable }
    }
}

/// A boot loader's memory map as Multiboot2 (3.6.8) and PVH have it: records of an address, a number of bytes, and a kind.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    records: &'a [u8],
    /// Bytes of a record; what one has beyond [`RECORD`] is ignored.
    size: usize,
}

/// Bytes that a record has at least.
pub const RECORD: usize = 24;
/// The kind of RAM that nobody has a claim on.
const USABLE: u32 = 1;

impl<'a> Map<'a> {
    pub const fn none() -> Self {
        Self { records: &[], size: RECORD }
    }

    /// `None`: records of that size are too short.
    pub fn new(records: &'a [u8], size: usize) -> Option<Self> {
        (size >= RECORD).then_some(Self { records, size })
    }

    pub fn entries(self) -> impl Iterator<Item = Entry> + Clone + 'a {
        self.records.chunks_exact(self.size).filter_map(|record| {
            Some(Entry::new(u64_at(record, 0)?, u64_at(record, 8)?, u32_at(record, 16)? == USABLE))
        })
    }

    /// Whether RAM, free or not, lies in a span: what no device Range may be made of.
    pub fn has_ram_in(self, span: &Range<u64>) -> bool {
        let overlaps = |ram: Range<u64>| ram.start.max(span.start) < ram.end.min(span.end);
        self.entries().any(|entry| entry.usable && overlaps(entry.span))
    }

    /// What is free below `limit`. Where entries overlap, reserved wins.
    pub fn free(self, limit: u64) -> FreeRegions {
        let mut free = FreeRegions::default();
        for entry in self.entries().filter(|e| e.usable) {
            free.add(entry.span.start..entry.span.end.min(limit));
        }
        for entry in self.entries().filter(|e| !e.usable) {
            free.remove(entry.span);
        }
        free
    }
}

/// Free regions, in bytes at page boundaries, disjoint, at most [`MAX_REGIONS`].
#[derive(Clone, Debug, Default)]
pub struct FreeRegions {
    regions: ArrayVec<Range<u64>, MAX_REGIONS>,
}

impl FreeRegions {
    /// Take in a region of RAM (bytes); parts of pages at its ends are left out. Overlaps with what is known already are
    /// added once.
    pub fn add(&mut self, ram: Range<u64>) {
        let Some(start) = ram.start.checked_next_multiple_of(PAGE) else { return };
        let mut region = start..ram.end & !(PAGE - 1);
        if region.is_empty() {
            return;
        }
        // What touches or overlaps it becomes one region with it.
        while let Some(i) = self.regions.iter().position(|r| r.start <= region.end && region.start <= r.end) {
            let other = self.regions.swap_remove(i);
            region = region.start.min(other.start)..region.end.max(other.end);
        }
        self.insert(region);
    }

    /// Remove whatever overlaps `taken` (bytes; every page touched is removed).
    pub fn remove(&mut self, taken: Range<u64>) {
        if taken.is_empty() {
            return;
        }
        let end = taken.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let taken = taken.start & !(PAGE - 1)..end;
        while let Some(i) = self.regions.iter().position(|r| r.start < taken.end && taken.start < r.end) {
            let region = self.regions.swap_remove(i);
            for rest in [region.start..taken.start, taken.end..region.end] {
                if !rest.is_empty() {
                    self.insert(rest);
                }
            }
        }
    }

    /// Take `bytes` (rounded up to pages) out of the smallest region that holds them, at its start.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        let fits = self.regions.iter().filter(|r| length(r) >= bytes);
        let start = fits.min_by_key(|r| length(r))?.start;
        self.remove(start..start + bytes);
        Some(start)
    }

    /// Take the highest free page that lies wholly below `limit`.
    pub fn take_page_below(&mut self, limit: u64) -> Option<u64> {
        let last = |r: &Range<u64>| (r.end.min(limit) & !(PAGE - 1)).checked_sub(PAGE).filter(|&page| page >= r.start);
        let page = self.regions.iter().filter_map(last).max()?;
        self.remove(page..page + PAGE);
        Some(page)
    }

    pub fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn insert(&mut self, region: Range<u64>) {
        if self.regions.try_push(region.clone()).is_err()
            && let Some(smallest) = self.regions.iter_mut().min_by_key(|r| length(r))
            && length(smallest) < length(&region)
        {
            *smallest = region;
        }
    }
}

fn length(region: &Range<u64>) -> u64 {
    region.end - region.start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(map: &FreeRegions) -> Vec<Range<u64>> {
        let mut list = map.regions().to_vec();
        list.sort_by_key(|r| r.start);
        list
    }

    /// Address, bytes and kind of each record.
    fn records(lines: &[(u64, u64, u32)]) -> Vec<u8> {
        let record = |&(address, bytes, kind): &(u64, u64, u32)| {
            [&address.to_le_bytes()[..], &bytes.to_le_bytes(), &kind.to_le_bytes(), &[0xa5; 4]].concat()
        };
        lines.iter().flat_map(record).collect()
    }

    #[test]
    fn records_are_read_at_their_distance_and_are_never_too_short() {
        let mut longer = records(&[(5, 6, 1), (7, 8, 3)]);
        longer.splice(24..24, [0xa5; 8]);
        longer.extend([0xa5; 8 + 31]); // and a part of another
        let entries: Vec<Entry> = Map::new(&longer, 32).unwrap().entries().collect();
        assert_eq!(entries, [Entry::new(5, 6, true), Entry::new(7, 8, false)]);
        assert!(Map::new(&longer, 23).is_none() && Map::new(&longer, 0).is_none());
        assert_eq!(Map::none().entries().count(), 0);
    }

    #[test]
    fn holes_split_regions_and_ends_are_cut_to_pages() {
        let mut map = FreeRegions::default();
        map.add(0x100_010..0x200_fff);
        map.remove(0x140_001..0x141_001);
        assert_eq!(free(&map), [0x101_000..0x140_000, 0x142_000..0x200_000]);
    }

    #[test]
    fn overlapping_ram_is_counted_once() {
        let mut map = FreeRegions::default();
        map.add(0x1000..0x5000);
        map.add(0x3000..0x8000);
        map.add(0x2000..0x3000);
        assert_eq!(free(&map), [0x1000..0x8000]);
        map.add(0..0x9000);
        assert_eq!(free(&map), [0..0x9000]);
    }

    #[test]
    fn spans_at_the_end_of_the_address_space_neither_wrap_nor_vanish() {
        let mut map = FreeRegions::default();
        map.add(u64::MAX - 100..u64::MAX);
        assert_eq!(free(&map), []);
        map.add(0x1000..u64::MAX);
        map.remove(0x4000..u64::MAX);
        assert_eq!(free(&map), [0x1000..0x4000]);
        assert_eq!(map.take(u64::MAX), None);
        assert_eq!(Entry::new(0x1000, u64::MAX, true).span, 0x1000..u64::MAX);
    }

    #[test]
    fn the_highest_page_below_a_limit_is_taken() {
        let mut map = FreeRegions::default();
        map.add(0..0x9f000);
        map.add(0x100_000..0x200_000);
        map.remove(0..0x1000);
        assert_eq!(map.take_page_below(1 << 20), Some(0x9e000));
        assert_eq!(map.take_page_below(0x2fff), Some(0x1000));
        assert_eq!(map.take_page_below(0x2000), None);
        assert_eq!(free(&map), [0x2000..0x9e000, 0x100_000..0x200_000]);
    }

    #[test]
    fn reserved_wins_over_ram_wherever_it_stands_and_what_lies_above_the_limit_is_not_seen() {
        let records = records(&[
            (0x8000, 0x1000, 2),
            (0, 0x10_000, 1),
            (0x4000, 0x20_000, 1),
            (0x28_000, 0, 1),
            (0x100_000, u64::MAX, 1),
            (0x200_000, u64::MAX, 0),
        ]);
        let map = Map::new(&records, RECORD).unwrap();
        assert_eq!(free(&map.free(0x300_000)), [0..0x8000, 0x9000..0x24_000, 0x100_000..0x200_000]);
        assert!(map.has_ram_in(&(0x23_fff..0x30_000)) && !map.has_ram_in(&(0x24_000..0x100_000)));
        assert!(map.has_ram_in(&(0x8000..0x8001)) && map.has_ram_in(&(u64::MAX - 1..u64::MAX)));
    }

    /// Whatever a map says, in whatever order: free regions are disjoint, RAM, and nothing that is reserved.
    #[test]
    fn random_maps_are_read_safely() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..if cfg!(miri) { 2 } else { 2000 } {
            let count = random.u64(..90);
            let lines: Vec<_> = (0..count)
                .map(|_| (random.u64(..4096) << 10, random.u64(..1 << 18), u32::from(random.u64(..3) > 0)))
                .collect();
            let records = records(&lines);
            let read = Map::new(&records, RECORD).unwrap();
            let map: Vec<Entry> = read.entries().collect();
            let list = free(&read.free(4 << 20));
            for pair in list.windows(2) {
                assert!(pair[0].end <= pair[1].start);
            }
            for page in list.iter().flat_map(|r| r.clone().step_by(4096)) {
                let covered =
                    |usable| map.iter().any(|e| e.usable == usable && e.span.start < page + 4096 && page < e.span.end);
                assert!(covered(true) && !covered(false), "{page:#x} of {map:?}");
            }
            for Range { start, end } in map.iter().filter(|e| e.usable && !e.span.is_empty()).map(|e| e.span.clone()) {
                assert!(read.has_ram_in(&(start..start + 1)) && read.has_ram_in(&(end - 1..end)), "{map:?}");
            }
        }
    }

    #[test]
    fn taking_uses_the_smallest_fit_and_fails_when_nothing_fits() {
        let mut map = FreeRegions::default();
        map.add(0x10_000..0x20_000);
        map.add(0x30_000..0x32_000);
        assert_eq!(map.take(0x1001), Some(0x30_000));
        assert_eq!(map.take(0x10_000), Some(0x10_000));
        assert_eq!(map.take(1), None);
    }

    #[test]
    fn more_regions_than_fit_drop_the_smallest() {
        let mut map = FreeRegions::default();
        for i in 0..20 {
            map.add(i * 0x100_000..i * 0x100_000 + 0x1000 * (i + 1));
        }
        assert_eq!(map.regions().len(), MAX_REGIONS);
        assert!(map.regions().iter().all(|r| r.end - r.start >= 0x5000));
    }
}
