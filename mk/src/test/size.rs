//! How large the kernel is: what has to be read to trust it.
//!
//! All lines count of the Rust, assembler and linker script that the kernel is made of (`microkernel/src`, `kcore`, `kobj`),
//! comments and blank lines too. Tests do not, nor does what is compiled only with the feature `check`, for the fuzzer: an item
//! behind an attribute that says so, and the file of a module that is declared behind one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that the kernel may have.
const LIMIT: usize = 10_000;

/// A file's text without the items that are not the kernel's, and the modules among these.
fn kept(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut lines, mut modules) = (Vec::new(), Vec::new());
    let mut rest = text.lines();
    while let Some(line) = rest.next() {
        if !is_left_out(line) {
            lines.push(line);
            continue;
        }
        let mut depth = 0;
        for line in rest.by_ref().filter(|line| !line.trim_start().starts_with("//")) {
            let name =
                line.trim().trim_start_matches("pub ").strip_prefix("mod ").and_then(|name| name.strip_suffix(';'));
            modules.extend(name);
            depth += line.matches(['(', '[', '{']).count();
            depth -= line.matches([')', ']', '}']).count();
            if depth == 0 && line.ends_with([';', ',', '}']) {
                break;
            }
        }
    }
    (lines, modules)
}

/// Whether the item behind an attribute is for tests, or for the fuzzer's kernel.
fn is_left_out(line: &str) -> bool {
    let condition = line.trim().strip_prefix("#[cfg(").and_then(|rest| rest.strip_suffix(")]"));
    condition.is_some_and(|condition| {
        let test = condition.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test");
        (test || condition.contains("feature = \"check\"")) && !condition.contains("not(")
    })
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "s", "ld"].map(Into::into).contains(&extension.to_owned()))
        {
            found.push(path);
        }
    }
}

/// The kernel's files, each with its lines.
fn kernel() -> Vec<(PathBuf, usize)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("microkernel");
    let mut found = vec![root.join("build.rs"), root.join("kernel.ld")];
    ["src", "kcore/src", "kobj/src"].iter().for_each(|folder| files(&root.join(folder), &mut found));
    let mut left_out = BTreeSet::new();
    let mut counted = Vec::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let (lines, modules) = kept(&text);
        let is_root = ["main.rs", "lib.rs", "mod.rs"].iter().any(|name| path.ends_with(name));
        let inside = if is_root { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        left_out.extend(modules.iter().map(|module| inside.join(module)));
        counted.push((path, lines.len()));
    }
    counted.retain(|(path, _)| !left_out.iter().any(|module| path.with_extension("").starts_with(module)));
    counted
}

#[test]
fn the_kernel_is_under_ten_thousand_lines() {
    let files = kernel();
    let lines: usize = files.iter().map(|(_, lines)| lines).sum();
    let largest = files.iter().max_by_key(|(_, lines)| lines);
    assert!(lines < LIMIT, "{lines} lines; the largest file is {largest:?}");
    // It is the kernel that was counted, and not what is left out.
    let has = |name: &str| files.iter().any(|(path, lines)| path.ends_with(name) && *lines > 20);
    assert!(
        lines > LIMIT / 2 && ["src/sched.rs", "kobj/src/cspace.rs", "arch/trap.s", "kernel.ld"].into_iter().all(has)
    );
    assert!(!["src/check.rs", "src/attack.rs", "kobj/src/tests.rs", "kobj/src/tests/memory.rs"].into_iter().any(has));
}

#[test]
fn only_items_for_tests_and_the_fuzzer_are_left_out() {
    let text = "\
use a::b;
#[cfg(feature = \"check\")]
use a::check;
#[cfg(any(test, feature = \"check\"))]
pub mod check;

#[cfg(not(feature = \"check\"))]
fn always() {
    #[cfg(feature = \"check\")]
    crate::check::look(
        1,
    );
    work(); // counted
}
#[cfg(target_os = \"none\")]
mod latest;
#[cfg(test)]
mod tests {
    fn f() {
    }
}
";
    let (lines, modules) = kept(text);
    assert_eq!(modules, ["check"]);
    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert_eq!(lines[4], "    work(); // counted");
}
