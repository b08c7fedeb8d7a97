//! docs/acceptance.md names all sixty cases, each with tests that exist.

use super::kernel;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Number of the cases.
const CASES: u32 = 60;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("readable");
            found.push((path, text));
        }
    }
}

/// Names of all tests: of the kernel's own, of those from outside, and of the pure parts (as `cargo test` has them).
fn existing() -> BTreeSet<String> {
    let outside = kernel::CHECKS.iter().map(|(name, _)| *name).chain([kernel::ATTACKS]);
    let mut names: BTreeSet<String> = outside.map(str::to_owned).collect();
    let mut inside = Vec::new();
    sources(&root().join("microkernel/ktest/src"), &mut inside);
    for (_, text) in &inside {
        names.extend(text.split("name: \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    let mut pure = Vec::new();
    sources(&root().join("microkernel/kcore/src"), &mut pure);
    for (path, text) in &pure {
        let module = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let tests = text.split("#[test]").skip(1).filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next());
        names.extend(tests.map(|test| format!("{module}::tests::{test}")));
    }
    names
}

#[test]
fn the_table_has_all_cases_and_names_only_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/acceptance.md")).expect("docs/acceptance.md");
    let existing = existing();
    let mut cases = BTreeSet::new();
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // The first table has the tests in its third column, the second in its last.
        let tests = if cells.len() == 4 { cells[2] } else { cells[cells.len() - 1] };
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if let Ok(case) = cells[0].parse::<u32>() {
            assert!(cases.insert(case), "case {case} is there twice");
            assert!(!tests.is_empty(), "case {case} has no test");
        }
        for test in tests {
            assert!(existing.contains(test), "`{test}` is no test, in: {line}");
            named += 1;
        }
    }
    assert_eq!(cases, (1..=CASES).collect());
    assert!(named > 100, "the table was not understood: {named} names");
}
