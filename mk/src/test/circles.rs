//! Which files of the kernel need which, computed from their text: arrows between files point one way. Where they run in a
//! circle, those files can only be understood, tested and replaced together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module by its path in the crate.
type Module = Vec<String>;
/// A path as it is written, or as it is resolved.
type Names = Vec<String>;

/// Files in a circle of this many are said to be one thing (such as an object and what it points back to).
const LARGEST_CIRCLE: usize = 3;

/// A crate's modules, and what each says.
struct Crate {
    modules: BTreeMap<Module, Text>,
}

#[derive(Default)]
struct Text {
    /// Paths that it uses.
    used: Vec<Names>,
    /// Names that it gives on, and where it has them from.
    given: BTreeMap<String, Names>,
}

impl Crate {
    fn read(source: &Path) -> Self {
        let mut texts = BTreeMap::new();
        for file in rust_files(source) {
            let text = without_comments(&fs::read_to_string(&file).unwrap());
            let inside = file.strip_prefix(source).unwrap().with_extension("");
            let mut module: Module = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if matches!(module.last().unwrap().as_str(), "mod" | "main" | "lib") {
                module.pop();
            }
            texts.insert(module, text);
        }
        let names: BTreeSet<Module> = texts.keys().cloned().collect();
        let modules = texts.iter().map(|(module, text)| (module.clone(), Text::of(text, module, &names)));
        let mut this = Self { modules: modules.collect() };
        // Macros are the crate's, wherever they are.
        for (module, text) in &texts {
            for (at, _) in text.match_indices("#[macro_export]\nmacro_rules! ") {
                let name = text[at..].split("macro_rules! ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
                let path = ["crate".to_owned()].into_iter().chain(module.clone()).chain([name.clone()]).collect();
                this.modules.entry(Module::new()).or_default().given.insert(name, path);
            }
        }
        this
    }

    /// The module that a path in `module` leads to, through whatever gives the name on.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Module::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            child if self.modules.contains_key(&joined(module, child)) => joined(module, child),
            _ => return None,
        };
        while let Some((name, others)) = rest.split_first() {
            if name == "super" {
                at.pop();
            } else if self.modules.contains_key(&joined(&at, name)) {
                at.push(name.clone());
            } else {
                break;
            }
            rest = others;
        }
        if let Some((name, others)) = rest.split_first()
            && let Some(origin) = self.modules[&at].given.get(name)
            && depth < 8
        {
            let path: Names = origin.iter().chain(others).cloned().collect();
            return self.resolve(&at, &path, depth + 1);
        }
        (!at.is_empty()).then_some(at)
    }

    /// What each module needs.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let needs = |module: &Module, text: &Text| {
            text.used.iter().filter_map(|path| self.resolve(module, path, 0)).filter(|other| other != module).collect()
        };
        self.modules.iter().map(|(module, text)| (module, needs(module, text))).collect()
    }

    /// The groups of modules each of which needs, by whatever way, each other one.
    fn circles(&self) -> Vec<Vec<String>> {
        let arrows = self.arrows();
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            arrows.keys().map(|&module| (module, reach(&arrows, module))).collect();
        let circle_of = |module: &&Module| -> Vec<String> {
            let others = reached[*module].iter().filter(|other| reached[*other].contains(*module));
            others.map(|other| other.join("/")).collect()
        };
        arrows.keys().map(circle_of).filter(|circle| circle.len() > 1).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn joined(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn reach<'a>(arrows: &'a BTreeMap<&'a Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Module> = arrows[from].iter().collect();
    while let Some(module) = next.pop() {
        if seen.insert(module) {
            next.extend(&arrows[module]);
        }
    }
    seen
}

impl Text {
    fn of(text: &str, module: &Module, modules: &BTreeSet<Module>) -> Self {
        let mut this = Self::default();
        let mut body = String::new();
        let mut rest = text;
        while let Some(at) = find_use(rest) {
            let end = at + rest[at..].find(';').unwrap_or(rest.len() - at);
            let public = rest[..at].trim_end().rsplit(['\n', ';', '}']).next().unwrap_or_default().trim();
            let public = public.starts_with("pub") && !public.contains(char::is_whitespace);
            for (path, name) in flattened(&rest[at + "use ".len()..end]) {
                if public {
                    this.given.insert(name, path);
                } else {
                    this.used.push(path);
                }
            }
            body.push_str(&rest[..at]);
            rest = &rest[end..];
        }
        body.push_str(rest);
        let words = words(&body);
        for (i, word) in words.iter().enumerate() {
            let child = modules.contains(&joined(module, word));
            let begins = i == 0 || words[i - 1] != "::";
            if begins && (child || word == "crate" || word == "super") {
                let mut path = vec![word.clone()];
                let mut at = i + 1;
                while at + 1 < words.len() && words[at] == "::" {
                    path.push(words[at + 1].clone());
                    at += 2;
                }
                if path.len() > 1 {
                    this.used.push(path);
                }
            }
        }
        this
    }
}

/// Where the next `use` begins.
fn find_use(text: &str) -> Option<usize> {
    text.match_indices("use ").map(|(at, _)| at).find(|&at| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || c == '{')
    })
}

/// The paths of a tree such as `a::{b, c::{d, e as f}}`, each with the name that it gets.
fn flattened(tree: &str) -> Vec<(Names, String)> {
    let names = |path: &str| -> Names {
        path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let Some(open) = tree.find('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, tree.rsplit("::").next().unwrap_or_default()));
        return vec![(names(path), name.trim().to_owned())];
    };
    let before = names(&tree[..open]);
    let inside = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let mut depth = 0;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let paths = parts.filter(|part| !part.trim().is_empty()).flat_map(flattened);
    paths.map(|(path, name)| (before.iter().cloned().chain(path).collect(), name)).collect()
}

/// Names and `::`, in order; all else is a space.
fn words(text: &str) -> Vec<String> {
    let spaced: String = text.replace("::", " \u{1} ");
    let name = |c: char| c.is_alphanumeric() || c == '_' || c == '\u{1}';
    let spaced: String = spaced.chars().map(|c| if name(c) || c == ' ' { c } else { '\n' }).collect();
    let lines = spaced.split('\n').map(|line| line.split(' ').filter(|word| !word.is_empty()));
    lines
        .flat_map(|line| line.chain(["\n"]))
        .map(|word| if word == "\u{1}" { "::".to_owned() } else { word.to_owned() })
        .collect()
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
            false => Vec::new(),
        })
        .collect()
}

fn kernel(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("microkernel").join(folder)
}

#[test]
fn no_file_of_the_kernel_is_in_a_circle_of_more_than_three() {
    for folder in ["src", "kobj/src", "kcore/src"] {
        let circles = Crate::read(&kernel(folder)).circles();
        let large: Vec<_> = circles.iter().filter(|circle| circle.len() > LARGEST_CIRCLE).collect();
        assert!(large.is_empty(), "{folder}: {large:#?}");
    }
}

/// What the kernel's files need is found: these arrows are there, and so the test above sees something.
#[test]
fn arrows_are_found_through_names_that_are_given_on() {
    let kernel = Crate::read(&kernel("src"));
    let arrows = kernel.arrows();
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Module>();
    for (from, to) in [
        ("syscall", "dispatch"),          // a `use` in braces
        ("dispatch", "object/thread"),    // given on by object/mod.rs
        ("object/thread", "object/task"), // by `super`
        ("arch/memory", "arch"),          // none of these: see below
    ] {
        assert_eq!(arrows[&module(from)].contains(&module(to)), from != "arch/memory", "{from} needs {to}");
    }
    assert!(arrows.keys().all(|module| module.first().is_none_or(|first| first != "arch")
        || arrows[module].iter().all(|needed| needed[0] == "arch" || matches!(needed[0].as_str(), "log" | "shared"))));
}

/// The circle that once held most of the kernel is one that this finds.
#[test]
fn a_circle_is_found() {
    let text = |text: &str, module: &str| {
        let names = ["a", "b", "c", "d"].map(|name| vec![name.to_owned()]).into_iter().collect();
        (vec![module.to_owned()], Text::of(text, &vec![module.to_owned()], &names))
    };
    let modules = [
        text("use crate::b::{B, X};\nfn f() {}", "a"),
        text("pub use crate::c::X;\nfn f() { crate::c::g() }", "b"),
        text("use super::d::D;", "c"),
        text("struct S(super::a::A);", "d"),
    ];
    let circles = Crate { modules: modules.into_iter().chain([(Module::new(), Text::default())]).collect() }.circles();
    assert_eq!(circles, [["a", "b", "c", "d"]]);
}
