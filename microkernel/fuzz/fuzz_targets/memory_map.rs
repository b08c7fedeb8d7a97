//! A boot loader's memory map and what is then taken from it, against lists of intervals without a limit to their number.
#![no_main]

use std::ops::Range;

use arbitrary::Arbitrary;
use kcore::memory_map::{Entry, FreeRegions, MAX_REGIONS, Map, RECORD};
use libfuzzer_sys::fuzz_target;

const PAGE: u64 = 4096;

#[derive(Arbitrary, Debug)]
enum Number {
    /// So that spans meet, in half pages.
    Near(u8),
    Page(u16),
    Any(u64),
    FromTheEnd(u16),
}

impl Number {
    fn get(&self) -> u64 {
        match *self {
            Self::Near(n) => u64::from(n) * PAGE / 2,
            Self::Page(n) => u64::from(n) * PAGE,
            Self::Any(n) => n,
            Self::FromTheEnd(n) => u64::MAX - u64::from(n),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Line {
    address: Number,
    bytes: Number,
    usable: bool,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Add(Number, Number),
    Remove(Number, Number),
    Take(Number),
    TakePageBelow(Number),
}

#[derive(Arbitrary, Debug)]
struct Input {
    lines: Vec<Line>,
    limit: Number,
    changes: Vec<Change>,
}

/// Rising, disjoint, no two that touch.
#[derive(Clone, Debug, Default, PartialEq)]
struct Set(Vec<Range<u64>>);

impl Set {
    fn add(&mut self, mut span: Range<u64>) {
        if span.is_empty() {
            return;
        }
        self.0.retain(|r| {
            let apart = r.end < span.start || span.end < r.start;
            if !apart {
                span = span.start.min(r.start)..span.end.max(r.end);
            }
            apart
        });
        self.0.push(span);
        self.0.sort_by_key(|r| r.start);
    }

    fn remove(&mut self, span: Range<u64>) {
        if span.is_empty() {
            return;
        }
        let parts = |r: Range<u64>| [r.start..r.end.min(span.start), r.start.max(span.end)..r.end];
        self.0 = self.0.iter().cloned().flat_map(parts).filter(|r| !r.is_empty()).collect();
    }

    fn holds(&self, span: &Range<u64>) -> bool {
        self.0.iter().any(|r| r.start <= span.start && span.end <= r.end)
    }
}

fn inner_pages(r: Range<u64>) -> Range<u64> {
    r.start.div_ceil(PAGE).saturating_mul(PAGE)..r.end / PAGE * PAGE
}

fn outer_pages(r: Range<u64>) -> Range<u64> {
    if r.is_empty() { r } else { r.start / PAGE * PAGE..r.end.div_ceil(PAGE).saturating_mul(PAGE) }
}

/// The regions in rising order, after a look at what holds for all.
fn sorted(free: &FreeRegions) -> Vec<Range<u64>> {
    let mut regions = free.regions().to_vec();
    regions.sort_by_key(|r| r.start);
    assert!(regions.len() <= MAX_REGIONS);
    assert!(regions.iter().all(|r| !r.is_empty() && r.start % PAGE == 0 && r.end % PAGE == 0), "{regions:?}");
    assert!(regions.windows(2).all(|pair| pair[0].end < pair[1].start), "{regions:?}");
    regions
}

/// What the regions must be after one change; of one too many, the smallest (or one of them) is given up.
fn compare(free: &FreeRegions, model: &mut Set) {
    let regions = sorted(free);
    if model.0.len() <= MAX_REGIONS {
        assert_eq!(regions, model.0);
        return;
    }
    let lengths = |of: &[Range<u64>]| {
        let mut lengths: Vec<u64> = of.iter().map(|r| r.end - r.start).collect();
        lengths.sort();
        lengths
    };
    assert!(regions.iter().all(|r| model.0.contains(r)));
    assert_eq!(lengths(&regions), lengths(&model.0)[model.0.len() - MAX_REGIONS..]);
    model.0 = regions;
}

fuzz_target!(|input: Input| {
    let limit = input.limit.get();
    let lines: Vec<Entry> =
        input.lines.iter().take(80).map(|l| Entry::new(l.address.get(), l.bytes.get(), l.usable)).collect();
    let words = |l: &Line| [l.address.get(), l.bytes.get(), u64::from(l.usable) | 0xa5 << 32];
    let records: Vec<u8> = input.lines.iter().take(80).flat_map(words).flat_map(u64::to_le_bytes).collect();
    let map = Map::new(&records, RECORD).expect("long enough");
    assert!(map.entries().eq(lines.iter().cloned()));
    let mut free = map.free(limit);

    let (mut model, mut bytes) = (Set::default(), Set::default());
    for entry in lines.iter().filter(|e| e.usable) {
        let span = entry.span.start..entry.span.end.min(limit);
        model.add(inner_pages(span.clone()));
        bytes.add(span);
    }
    for entry in lines.iter().filter(|e| !e.usable) {
        model.remove(outer_pages(entry.span.clone()));
    }
    // With more lines than regions, the smallest were given up on the way.
    if lines.len() <= MAX_REGIONS {
        compare(&free, &mut model);
    }
    for region in sorted(&free) {
        assert!(model.holds(&region) && bytes.holds(&region) && region.end <= limit);
        assert!(
            lines
                .iter()
                .all(|e| e.usable || e.span.end <= region.start || region.end <= e.span.start || e.span.is_empty())
        );
        assert!(map.has_ram_in(&region));
    }
    for span in &bytes.0 {
        assert!(map.has_ram_in(&(span.start..span.start + 1)) && map.has_ram_in(&(span.end - 1..span.end)));
    }
    for gap in bytes.0.windows(2).map(|pair| pair[0].end..pair[1].start.min(limit)) {
        assert!(!map.has_ram_in(&gap), "RAM where there is none");
    }

    model.0 = sorted(&free);
    for change in input.changes.iter().take(80) {
        match change {
            Change::Add(address, bytes) => {
                let span = Entry::new(address.get(), bytes.get(), true).span;
                model.add(inner_pages(span.clone()));
                free.add(span);
            }
            Change::Remove(address, bytes) => {
                let span = Entry::new(address.get(), bytes.get(), true).span;
                model.remove(outer_pages(span.clone()));
                free.remove(span);
            }
            Change::Take(bytes) => {
                let needed = bytes.get().checked_next_multiple_of(PAGE);
                let length = |r: &&Range<u64>| r.end - r.start;
                let fit =
                    needed.and_then(|needed| model.0.iter().filter(|r| length(r) >= needed).map(|r| length(&r)).min());
                let taken = free.take(bytes.get());
                assert_eq!(taken.is_some(), fit.is_some());
                if let (Some(start), Some(needed)) = (taken, needed) {
                    let from = model.0.iter().find(|r| r.start == start).expect("at the start of a region");
                    assert_eq!(Some(length(&from)), fit, "the smallest that fits");
                    model.remove(start..start + needed);
                }
            }
            Change::TakePageBelow(limit) => {
                let last = |r: &Range<u64>| {
                    let end = r.end.min(limit.get()) / PAGE * PAGE;
                    (end > r.start).then(|| end - PAGE)
                };
                let expected = model.0.iter().filter_map(last).max();
                assert_eq!(free.take_page_below(limit.get()), expected);
                if let Some(page) = expected {
                    model.remove(page..page + PAGE);
                }
            }
        }
        compare(&free, &mut model);
    }
});
