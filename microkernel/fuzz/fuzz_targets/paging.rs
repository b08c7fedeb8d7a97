//! Maps, unmaps and shortages of memory in any order: page tables say what a plain list of pages says.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use kcore::paging::{self, LARGE, Met, NO_EXECUTE, NoMemory, PRESENT, Tables, UNCACHED, USER, USER_END, WRITABLE};
use libfuzzer_sys::fuzz_target;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;

#[derive(Arbitrary, Debug)]
enum Operation {
    Map {
        at: Place,
        physical: Physical,
        pages: u16,
        writable: bool,
        executable: bool,
    },
    Unmap {
        at: Place,
        pages: u16,
    },
    UnmapPage {
        at: Place,
    },
    UnmapAll,
    /// Ranges are aligned so that a large page lies inside one or outside: whole large pages.
    UnmapPhysical {
        large: u8,
        count: u8,
    },
    /// Tables that can still be made.
    Memory {
        tables: u8,
    },
}

/// 16 MiB around each border that tables have.
#[derive(Arbitrary, Debug)]
enum Border {
    Bottom,
    /// Of two tables of level 1, 2, 3.
    Directory,
    Pointers,
    Root,
    Top,
}

#[derive(Arbitrary, Debug)]
struct Place {
    border: Border,
    page: u16,
    aligned: bool,
}

impl Place {
    fn address(&self) -> u64 {
        let base = match self.border {
            Border::Bottom => 0,
            Border::Directory => 6 << 20,
            Border::Pointers => (1 << 30) - (8 << 20),
            Border::Root => (1 << 39) - (8 << 20),
            Border::Top => USER_END - (16 << 20),
        };
        let page = u64::from(self.page % 4096);
        base + PAGE * if self.aligned { page & !511 } else { page }
    }
}

#[derive(Arbitrary, Debug)]
enum Physical {
    Any {
        page: u16,
        high: bool,
    },
    /// As far from a large page's begin as the address is.
    Congruent {
        large: u8,
    },
}

impl Physical {
    fn address(&self, virtual_address: u64) -> u64 {
        match *self {
            Self::Any { page, high } => u64::from(page) * PAGE + if high { 1 << 51 } else { 0 },
            Self::Congruent { large } => u64::from(large) * LARGE_PAGE + virtual_address % LARGE_PAGE,
        }
    }
}

/// Device memory is all above: what memory is does not depend on who maps it.
fn is_device(physical: u64) -> bool {
    physical >= 1 << 51
}

struct Memory {
    tables: BTreeMap<u64, Box<[u64; 512]>>,
    next: u64,
    left: usize,
}

impl Tables for Memory {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.tables[&table][index]
    }
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        self.tables.get_mut(&table).expect("a table that was freed")[index] = entry;
    }
    fn allocate(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.next += PAGE;
        self.tables.insert(self.next, Box::new([0; 512]));
        Some(self.next)
    }
    fn detach(&mut self, table: u64) {
        assert!(self.tables.remove(&table).is_some(), "detached twice");
    }
}

/// Virtual page -> (physical, flags).
type Model = BTreeMap<u64, (u64, u64)>;

fn pages_of(t: &Memory, root: u64) -> Model {
    let (mut pages, mut tables) = (Model::new(), BTreeSet::from([root]));
    paging::walk(t, root, &mut |met| match met {
        Met::Table { table, entries } => {
            assert!(tables.insert(table), "a table in two places");
            let present = t.tables[&table].iter().filter(|&&entry| entry & PRESENT != 0).count();
            assert!(present > 0 && present as u64 == entries, "{present} entries, counted {entries}");
        }
        Met::Page { address, physical, bytes, flags } => {
            assert_eq!((address | physical) % bytes, 0);
            assert_eq!(flags & LARGE != 0, bytes == LARGE_PAGE);
            for offset in (0..bytes).step_by(PAGE as usize) {
                assert!(pages.insert(address + offset, (physical + offset, flags & !LARGE)).is_none());
            }
        }
    });
    assert!(tables.iter().eq(t.tables.keys()), "a table got lost");
    pages
}

fn unmap_all(t: &mut Memory, root: u64) {
    let mut span = 0..USER_END;
    while !span.is_empty() {
        paging::unmap(t, root, &mut span, 1000).expect("no large page reaches outside");
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let root = PAGE;
    let mut t = Memory { tables: BTreeMap::from([(root, Box::new([0; 512]))]), next: root, left: 100 };
    let mut model = Model::new();
    for operation in operations.iter().take(24) {
        match operation {
            Operation::Map { at, physical, pages, writable, executable } => {
                let at = at.address();
                let physical = physical.address(at);
                let size = (u64::from(pages % 2048) + 1) * PAGE;
                let size = size.min(USER_END - at).min((1u64 << 51).wrapping_sub(physical).max(PAGE));
                let flag = |on, flag| if on { flag } else { 0 };
                let flags = USER
                    | flag(*writable, WRITABLE)
                    | flag(!executable, NO_EXECUTE)
                    | flag(is_device(physical), UNCACHED);
                let new: Model =
                    (0..size).step_by(PAGE as usize).map(|o| (at + o, (physical + o, flags | PRESENT))).collect();
                let must_flush = new.iter().any(|(page, &(physical, flags))| {
                    model.get(page).is_some_and(|&(was, had)| {
                        was != physical
                            || had & !flags & (WRITABLE | USER) != 0
                            || !had & flags & NO_EXECUTE != 0
                            || (had ^ flags) & UNCACHED != 0
                    })
                });
                let straight = (size == PAGE).then(|| paging::map_one(&mut t, root, at, physical, flags)).flatten();
                match straight.map_or_else(|| paging::map(&mut t, root, at, physical, size, flags), Ok) {
                    Ok(flush) => {
                        assert_eq!(flush, must_flush);
                        model.extend(new);
                    }
                    Err(NoMemory) => assert_eq!(t.left, 0),
                }
            }
            Operation::Unmap { at, pages } => {
                let at = at.address();
                let size = ((u64::from(pages % 2048) + 1) * PAGE).min(USER_END - at);
                let mut span = at..at + size;
                let (mut found, mut first) = (false, true);
                while !span.is_empty() {
                    match paging::unmap(&mut t, root, &mut span, 100) {
                        Ok(some) => found |= some,
                        Err(NoMemory) => {
                            assert!(first && t.left == 0, "only the first part can need memory");
                            break;
                        }
                    }
                    first = false;
                }
                if span.is_empty() {
                    assert_eq!(found, model.range(at..at + size).next().is_some());
                    model.retain(|page, _| !(at..at + size).contains(page));
                }
            }
            Operation::UnmapPage { at } => {
                if paging::unmap_one(&mut t, root, at.address()) {
                    assert!(model.remove(&at.address()).is_some());
                }
            }
            Operation::UnmapAll => {
                unmap_all(&mut t, root);
                model.clear();
            }
            Operation::UnmapPhysical { large, count } => {
                let start = u64::from(*large) * LARGE_PAGE;
                let span = start..start + (u64::from(*count) + 1) * LARGE_PAGE;
                let (mut from, mut found) = (0, false);
                while from < USER_END {
                    found |= paging::unmap_physical(&mut t, root, &mut from, &span, 0, 512);
                }
                let before = model.len();
                model.retain(|_, (physical, _)| !span.contains(physical));
                assert_eq!(found, model.len() < before);
            }
            Operation::Memory { tables } => t.left = usize::from(tables % 32),
        }
        assert_eq!(pages_of(&t, root), model, "after {operation:?}");
        for (&page, &(physical, flags)) in model.iter().step_by(61) {
            let (found, has) = paging::lookup(&t, root, page + 0x123).expect("the walk found it");
            assert_eq!((found, has & !LARGE), (physical + 0x123, flags));
            if page > 0 && !model.contains_key(&(page - PAGE)) {
                assert_eq!(paging::lookup(&t, root, page - 1), None);
            }
        }
    }
    unmap_all(&mut t, root);
    assert_eq!(t.tables.len(), 1, "tables that nobody gave back");
});
