//! Which physical memory is free: regions of RAM less what is taken.

use core::ops::Range;

const PAGE: u64 = 4096;

/// Most free regions that are kept; the smallest are given up first.
pub const MAX_REGIONS: usize = 16;
/// Most separate spans of RAM that are told apart.
pub const MAX_SPANS: usize = 32;

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

/// What a memory map says below `limit`: the free regions, and all RAM. Where entries overlap, reserved wins.
pub fn read(map: impl Iterator<Item = Entry> + Clone, limit: u64) -> (FreeRegions, Ram) {
    let (mut free, mut ram) = (FreeRegions::default(), Ram::default());
    for entry in map.clone().filter(|e| e.usable) {
        let span = entry.span.start..entry.span.end.min(limit);
        ram.add(span.clone());
        free.add(span);
    }
    for entry in map.filter(|e| !e.usable) {
        free.remove(entry.span);
    }
    (free, ram)
}

/// Free regions, in bytes at page boundaries, disjoint, at most [`MAX_REGIONS`].
#[derive(Clone, Debug, Default)]
pub struct FreeRegions {
    regions: [Range<u64>; MAX_REGIONS],
    count: usize,
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
        while let Some(i) = self.regions().iter().position(|r| r.start <= region.end && region.start <= r.end) {
            let other = self.drop_at(i);
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
        while let Some(i) = self.regions().iter().position(|r| r.start < taken.end && taken.start < r.end) {
            let region = self.drop_at(i);
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
        let fits = self.regions().iter().enumerate().filter(|(_, r)| r.end - r.start >= bytes);
        let (i, _) = fits.min_by_key(|(_, r)| r.end - r.start)?;
        let region = self.drop_at(i);
        if region.start + bytes < region.end {
            self.insert(region.start + bytes..region.end);
        }
        Some(region.start)
    }

    /// Take the highest free page that lies wholly below `limit`.
    pub fn take_page_below(&mut self, limit: u64) -> Option<u64> {
        let last = |r: &Range<u64>| (r.end.min(limit) & !(PAGE - 1)).checked_sub(PAGE).filter(|&page| page >= r.start);
        let page = self.regions().iter().filter_map(last).max()?;
        self.remove(page..page + PAGE);
        Some(page)
    }

    pub fn regions(&self) -> &[Range<u64>] {
        &self.regions[..self.count]
    }

    fn drop_at(&mut self, i: usize) -> Range<u64> {
        self.count -= 1;
        self.regions.swap(i, self.count);
        self.regions[self.count].clone()
    }

    fn insert(&mut self, region: Range<u64>) {
        if self.count < MAX_REGIONS {
            self.regions[self.count] = region;
            self.count += 1;
            return;
        }
        if let Some(smallest) = self.regions.iter_mut().min_by_key(|r| r.end - r.start)
            && smallest.end - smallest.start < region.end - region.start
        {
            *smallest = region;
        }
    }
}

/// All RAM, free or not: what no device Range may overlap. Never says that RAM is none: with more than [`MAX_SPANS`] spans,
/// the narrowest gap between two counts as RAM.
#[derive(Clone, Debug)]
pub struct Ram {
    /// In rising order, disjoint.
    spans: [Range<u64>; MAX_SPANS],
    count: usize,
}

impl Default for Ram {
    fn default() -> Self {
        Self::none()
    }
}

impl Ram {
    /// No RAM at all.
    pub const fn none() -> Self {
        Self { spans: [const { 0..0 }; MAX_SPANS], count: 0 }
    }

    pub fn overlaps(&self, span: &Range<u64>) -> bool {
        self.spans().iter().any(|ram| span.start < ram.end && ram.start < span.end)
    }

    pub fn contains(&self, address: u64) -> bool {
        self.spans().iter().any(|ram| ram.contains(&address))
    }

    pub fn spans(&self) -> &[Range<u64>] {
        &self.spans[..self.count]
    }

    fn add(&mut self, mut span: Range<u64>) {
        if span.is_empty() {
            return;
        }
        while let Some(i) = self.spans().iter().position(|s| s.start <= span.end && span.start <= s.end) {
            span = span.start.min(self.spans[i].start)..span.end.max(self.spans[i].end);
            self.remove_at(i);
        }
        let at = self.spans().partition_point(|s| s.start < span.start);
        if self.count == MAX_SPANS {
            // The new span joins its nearer neighbour, or two others that are nearer to each other make room for it.
            let gap_of = |i: usize| self.spans[i + 1].start - self.spans[i].end;
            let narrowest = (0..MAX_SPANS - 1).min_by_key(|&i| gap_of(i)).unwrap_or(0);
            let before = at.checked_sub(1).map(|i| (span.start - self.spans[i].end, i));
            let after = (at < MAX_SPANS).then(|| (self.spans[at].start - span.end, at));
            let nearest = before.into_iter().chain(after).min();
            if let Some((gap, i)) = nearest
                && gap <= gap_of(narrowest)
            {
                let other = &mut self.spans[i];
                *other = other.start.min(span.start)..other.end.max(span.end);
                return;
            }
            self.spans[narrowest].end = self.spans[narrowest + 1].end;
            self.remove_at(narrowest + 1);
        }
        let at = self.spans().partition_point(|s| s.start < span.start);
        self.spans[at..=self.count].rotate_right(1);
        self.spans[at] = span;
        self.count += 1;
    }

    fn remove_at(&mut self, i: usize) {
        self.spans[i..self.count].rotate_left(1);
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(map: &FreeRegions) -> Vec<Range<u64>> {
        let mut list = map.regions().to_vec();
        list.sort_by_key(|r| r.start);
        list
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
        let map = [
            Entry::new(0x8000, 0x1000, false),
            Entry::new(0, 0x10_000, true),
            Entry::new(0x4000, 0x20_000, true),
            Entry::new(0x100_000, u64::MAX, true),
            Entry::new(0x200_000, u64::MAX, false),
        ];
        let (regions, ram) = read(map.iter().cloned(), 0x300_000);
        assert_eq!(free(&regions), [0..0x8000, 0x9000..0x24_000, 0x100_000..0x200_000]);
        assert_eq!(ram.spans(), [0..0x24_000, 0x100_000..0x300_000]);
        assert!(ram.overlaps(&(0x23_fff..0x30_000)) && !ram.overlaps(&(0x24_000..0x100_000)));
        assert!(ram.contains(0x8000) && !ram.contains(0x24_000));
    }

    /// Whatever a map says, in whatever order: free regions are disjoint, RAM, and nothing that is reserved.
    #[test]
    fn random_maps_are_read_safely() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..if cfg!(miri) { 2 } else { 2000 } {
            let count = random.u64(..90);
            let map: Vec<Entry> = (0..count)
                .map(|_| Entry::new(random.u64(..4096) << 10, random.u64(..1 << 18), random.u64(..3) > 0))
                .collect();
            let (regions, ram) = read(map.iter().cloned(), 4 << 20);
            let list = free(&regions);
            for pair in list.windows(2) {
                assert!(pair[0].end <= pair[1].start);
            }
            for pair in ram.spans().windows(2) {
                assert!(pair[0].end < pair[1].start);
            }
            for page in list.iter().flat_map(|r| r.clone().step_by(4096)) {
                let covered =
                    |usable| map.iter().any(|e| e.usable == usable && e.span.start < page + 4096 && page < e.span.end);
                assert!(covered(true) && !covered(false), "{page:#x} of {map:?}");
            }
            for entry in map.iter().filter(|e| e.usable && !e.span.is_empty()) {
                for at in entry.span.clone().step_by(1024).take_while(|&at| at < 4 << 20) {
                    assert!(ram.contains(at), "{at:#x} of {map:?}");
                }
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
