//! Which physical memory is free: regions of RAM less what is taken.

use core::ops::Range;

/// Most free regions that are kept; the smallest are given up first.
pub const MAX_REGIONS: usize = 16;

/// Free regions, in 4 KiB pages, disjoint, at most [`MAX_REGIONS`].
#[derive(Clone, Debug, Default)]
pub struct FreeRegions {
    regions: [Range<u64>; MAX_REGIONS],
    count: usize,
}

impl FreeRegions {
    /// Take in a region of RAM (bytes); parts of pages at its ends are left out. Overlaps with what is known already are
    /// added once.
    pub fn add(&mut self, ram: Range<u64>) {
        let mut region = ram.start.next_multiple_of(4096)..ram.end & !4095;
        for known in self.regions[..self.count].iter() {
            if region.start >= known.start && region.start < known.end {
                region.start = known.end;
            }
            if region.end > known.start && region.end <= known.end {
                region.end = known.start;
            }
        }
        if region.start < region.end {
            self.insert(region);
        }
    }

    /// Remove whatever overlaps `taken` (bytes; every page touched is removed).
    pub fn remove(&mut self, taken: Range<u64>) {
        let taken = taken.start & !4095..taken.end.next_multiple_of(4096);
        if taken.is_empty() {
            return;
        }
        let mut i = 0;
        while i < self.count {
            let region = self.regions[i].clone();
            if taken.start >= region.end || taken.end <= region.start {
                i += 1;
                continue;
            }
            self.count -= 1;
            self.regions[i] = self.regions[self.count].clone();
            let (left, right) = (region.start..taken.start, taken.end..region.end);
            if !left.is_empty() {
                self.insert(left);
            }
            if !right.is_empty() {
                self.insert(right);
            }
            i = 0;
        }
    }

    /// Take `bytes` (rounded up to pages) out of the smallest region that holds them, at its start.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let bytes = bytes.next_multiple_of(4096);
        let fits = self.regions[..self.count].iter_mut().filter(|r| r.end - r.start >= bytes);
        let region = fits.min_by_key(|r| r.end - r.start)?;
        let start = region.start;
        region.start += bytes;
        if region.is_empty() {
            let empty = self.regions[..self.count].iter().position(Range::is_empty)?;
            self.count -= 1;
            self.regions.swap(empty, self.count);
        }
        Some(start)
    }

    pub fn regions(&self) -> &[Range<u64>] {
        &self.regions[..self.count]
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
        assert_eq!(free(&map), [0x1000..0x5000, 0x5000..0x8000]);
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
