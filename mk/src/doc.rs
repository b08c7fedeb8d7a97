//! `mk doc abi`: docs/abi-reference.md from the Rust definitions of the kernel interface.

use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::{Attribute, BinOp, Expr, Fields, Item, Lit, Type, UnOp};

/// The files of vcpu/abi/src in the order of the reference, each with its title.
const FILES: &[(&str, &str)] = &[
    ("syscall.rs", "System calls and methods"),
    ("error.rs", "Errors"),
    ("frame.rs", "Shared pages"),
    ("boot.rs", "Boot pages and first capabilities"),
];

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Document {
    /// docs/abi-reference.md, from vcpu/abi
    Abi,
}

/// Writes the document anew.
pub fn run(tree: &Tree, document: Document) -> Result<()> {
    match document {
        Document::Abi => {
            let path = place(tree.root());
            fs::write(&path, reference(tree.root())?)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

fn place(root: &Path) -> PathBuf {
    root.join("docs/abi-reference.md")
}

/// The reference as Markdown.
fn reference(root: &Path) -> Result<String> {
    let mut abi = Abi::default();
    let mut text = String::from(
        "# ABI reference\n\nGenerated from `vcpu/abi/src` by `mk doc abi`; do not edit. [abi.md](abi.md) is the introduction. Numbers \
         are `u64` and offsets bytes unless a type is given.\n",
    );
    for (name, title) in FILES {
        let path = root.join("vcpu/abi/src").join(name);
        let source = fs::read_to_string(&path)?;
        let section = abi.section(&source).with_context(|| path.display().to_string())?;
        text.push_str(&format!("\n## {title}\n\n{section}"));
    }
    Ok(text)
}

/// What the definitions read so far say: later ones refer to them.
#[derive(Default)]
struct Abi {
    constants: BTreeMap<String, u64>,
    structures: BTreeMap<String, Layout>,
}

/// Size and alignment of a type in `repr(C)`, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    size: u64,
    align: u64,
}

impl Abi {
    /// One file. A plain comment above an item begins a new table, of which it is the caption.
    fn section(&mut self, source: &str) -> Result<String> {
        let file = syn::parse_file(source)?;
        let lines: Vec<&str> = source.lines().collect();
        let mut text = paragraphs(&file.attrs);
        let mut in_table = false;
        let mut previous_end = 0;
        for item in &file.items {
            let start = item.span().start().line - 1;
            let caption = plain_comment(&lines[previous_end.min(start)..start]);
            previous_end = item.span().end().line;
            if !caption.is_empty() {
                text.push_str(&format!("\n{}\n", unlinked(&caption)));
                in_table = false;
            }
            match item {
                Item::Const(item) if item.ident != "_" => {
                    let value = self.value(&item.expr).with_context(|| item.ident.to_string())?;
                    self.constants.insert(item.ident.to_string(), value);
                    if !in_table {
                        text.push_str("\n| constant | value | |\n|---|---|---|\n");
                        in_table = true;
                    }
                    text.push_str(&format!(
                        "| `{}` | {} | {} |\n",
                        item.ident,
                        number(value, &item.expr),
                        cell(&item.attrs)
                    ));
                    continue;
                }
                Item::Enum(item) => {
                    text.push_str(&format!(
                        "\n### `{}`\n\n{}\n| value | name | |\n|---|---|---|\n",
                        item.ident,
                        paragraphs(&item.attrs)
                    ));
                    for variant in &item.variants {
                        let (_, value) = variant.discriminant.as_ref().context("a variant without a number")?;
                        text.push_str(&format!(
                            "| {} | `{}` | {} |\n",
                            self.value(value)?,
                            variant.ident,
                            cell(&variant.attrs)
                        ));
                    }
                }
                Item::Struct(item) => text.push_str(&self.structure(item).with_context(|| item.ident.to_string())?),
                Item::Fn(item) => {
                    let arguments: Vec<String> = item
                        .sig
                        .inputs
                        .iter()
                        .map(|input| match input {
                            syn::FnArg::Typed(typed) => match &*typed.pat {
                                syn::Pat::Ident(pattern) => pattern.ident.to_string(),
                                _ => String::new(),
                            },
                            syn::FnArg::Receiver(_) => String::new(),
                        })
                        .collect();
                    text.push_str(&format!(
                        "\n### `{}({})`\n\n{}",
                        item.sig.ident,
                        arguments.join(", "),
                        paragraphs(&item.attrs)
                    ));
                }
                _ => continue, // imports, assertions, methods: nothing that another language must know
            }
            in_table = false;
        }
        Ok(text)
    }

    fn structure(&mut self, item: &syn::ItemStruct) -> Result<String> {
        if !item.attrs.iter().any(|a| a.path().is_ident("repr") && a.parse_args::<syn::Ident>().is_ok_and(|i| i == "C"))
        {
            bail!("not repr(C): its layout is not defined");
        }
        let Fields::Named(fields) = &item.fields else { bail!("a structure without named fields") };
        let mut rows = String::new();
        let mut whole = Layout { size: 0, align: 1 };
        for field in &fields.named {
            let name = field.ident.as_ref().context("a field without a name")?;
            let layout = self.layout(&field.ty).with_context(|| name.to_string())?;
            let offset = whole.size.next_multiple_of(layout.align);
            rows.push_str(&format!(
                "| {offset:#x} | {} | `{name}` | `{}` | {} |\n",
                layout.size,
                self.type_name(&field.ty)?,
                cell(&field.attrs)
            ));
            whole = Layout { size: offset + layout.size, align: whole.align.max(layout.align) };
        }
        whole.size = whole.size.next_multiple_of(whole.align);
        self.structures.insert(item.ident.to_string(), whole);
        let about = paragraphs(&item.attrs);
        Ok(format!(
            "\n### `{}`: {} bytes\n\n{about}\n| offset | bytes | field | type | |\n|---|---|---|---|---|\n{rows}",
            item.ident, whole.size
        ))
    }

    fn layout(&self, ty: &Type) -> Result<Layout> {
        match ty {
            Type::Array(array) => {
                let element = self.layout(&array.elem)?;
                Ok(Layout { size: element.size * self.value(&array.len)?, align: element.align })
            }
            Type::Path(path) => {
                let name = path.path.segments.last().context("an empty type")?.ident.to_string();
                let size = match name.as_str() {
                    "u8" => 1,
                    "u16" => 2,
                    "u32" | "AtomicU32" => 4,
                    "u64" | "AtomicU64" => 8,
                    _ => {
                        return self
                            .structures
                            .get(&name)
                            .copied()
                            .with_context(|| format!("the layout of {name} is not known"));
                    }
                };
                Ok(Layout { size, align: size })
            }
            _ => bail!("a type that C does not have"),
        }
    }

    fn type_name(&self, ty: &Type) -> Result<String> {
        match ty {
            Type::Array(array) => Ok(format!("[{}; {}]", self.type_name(&array.elem)?, self.value(&array.len)?)),
            Type::Path(path) => Ok(path.path.segments.last().context("an empty type")?.ident.to_string()),
            _ => bail!("a type that C does not have"),
        }
    }

    /// The number that an expression stands for.
    fn value(&self, expr: &Expr) -> Result<u64> {
        Ok(match expr {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => number.base10_parse()?,
                _ => bail!("a constant that is no number"),
            },
            Expr::Paren(inner) => self.value(&inner.expr)?,
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) => !self.value(&unary.expr)?,
            Expr::Binary(binary) => {
                let (left, right) = (self.value(&binary.left)?, self.value(&binary.right)?);
                match binary.op {
                    BinOp::Shl(_) => left << right,
                    BinOp::BitOr(_) => left | right,
                    BinOp::Add(_) => left + right,
                    BinOp::Sub(_) => left - right,
                    BinOp::Mul(_) => left * right,
                    _ => bail!("an operator that mk does not know"),
                }
            }
            Expr::Path(path) => {
                let segments: Vec<String> =
                    path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                let name = segments.last().context("an empty name")?;
                match (segments.first().map(String::as_str), name.as_str()) {
                    (Some("u64"), "MAX") => u64::MAX,
                    _ => {
                        *self.constants.get(name).with_context(|| format!("{name} is not defined before it is used"))?
                    }
                }
            }
            _ => bail!("an expression that mk does not know"),
        })
    }
}

/// In hexadecimal where the source has it so, and for what nobody would say in decimal.
fn number(value: u64, source: &Expr) -> String {
    let hexadecimal =
        matches!(source, Expr::Lit(literal) if matches!(&literal.lit, Lit::Int(n) if n.to_string().starts_with("0x")));
    if hexadecimal || value > 0xffff { format!("{value:#x}") } else { value.to_string() }
}

/// The lines of doc comments.
fn doc_lines(attributes: &[Attribute]) -> Vec<String> {
    let text = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn paragraphs(attributes: &[Attribute]) -> String {
    doc_lines(attributes).iter().map(|line| format!("{}\n", unlinked(line))).collect()
}

/// A doc comment as one cell of a table.
fn cell(attributes: &[Attribute]) -> String {
    unlinked(&doc_lines(attributes).join(" ")).trim().replace('|', "\\|")
}

/// rustdoc's links to items as plain code.
fn unlinked(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`").replace("`crate::", "`")
}

/// The plain comments among lines that lie between two items.
fn plain_comment(lines: &[&str]) -> String {
    let comments = lines.iter().filter_map(|line| line.trim().strip_prefix("// "));
    comments.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_abi_reference_is_up_to_date() {
        let written = fs::read_to_string(place(&root())).expect("docs/abi-reference.md");
        assert!(written == reference(&root()).unwrap(), "docs/abi-reference.md is out of date: run `mk doc abi`");
    }

    /// Each row `| file | function | ... |` of the path of one exception names a function that is there.
    #[test]
    fn the_path_of_one_exception_names_functions_that_exist() {
        let chapter = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
        let code = |cell: &str| Some(cell.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned());
        let mut steps = 0;
        for line in chapter
            .lines()
            .skip_while(|line| !line.contains("The path of one exception"))
            .take_while(|l| !l.contains("From the loader"))
        {
            let cells: Vec<&str> = line.split('|').collect();
            let [_, file, function, ..] = cells[..] else { continue };
            let (Some(file), Some(function)) = (code(file), code(function)) else { continue };
            let path = match file.strip_prefix("os-mk/") {
                Some(rest) => root().join("linux-guest-patches/files/arch/um/os-mk").join(rest),
                None => root().join("microkernel/src").join(&file),
            };
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            let forms =
                [format!("fn {function}("), format!("{function}:"), format!(" {function}("), format!("({function})")];
            assert!(forms.iter().any(|form| source.contains(form)), "{file} has no `{function}`");
            steps += 1;
        }
        assert!(steps > 15, "only {steps} steps were found");
    }

    #[test]
    fn computed_layouts_are_those_of_the_compiler() {
        let mut abi = Abi::default();
        for (name, _) in FILES {
            abi.section(&fs::read_to_string(root().join("vcpu/abi/src").join(name)).unwrap()).unwrap();
        }
        let mut count = 0;
        macro_rules! same {
            ($($name:ident)*) => { $(
                let real = Layout { size: size_of::<::abi::$name>() as u64, align: align_of::<::abi::$name>() as u64 };
                assert_eq!(abi.structures[stringify!($name)], real, stringify!($name));
                count += 1;
            )* };
        }
        same!(Regs TrapFrame MapItem VcpuState DecoupledFrame MessagePage RootBoot LinuxBoot);
        assert_eq!(count, abi.structures.len(), "a structure is not compared: {:?}", abi.structures.keys());
    }

    #[test]
    fn offsets_values_captions_and_links_come_out_as_written() {
        let source = "//! About.\n\n// Bits.\n\n/// One of [`crate::Two`].\npub const ONE: u64 = 1 << 16 | 1;\n\
                      #[repr(C)]\npub struct Two { pub a: u32, /** a|b */ pub b: [u64; 2] }\nconst _: () = assert!(true);\n";
        let text = Abi::default().section(source).unwrap();
        for expected in [
            "About.\n",
            "\nBits.\n",
            "| `ONE` | 0x10001 | One of `Two`. |",
            "`Two`: 24 bytes",
            "| 0x8 | 16 | `b` | `[u64; 2]` | a\\|b |",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn what_another_language_could_not_read_is_refused() {
        let refuses = |source: &str, says: &str| {
            let error = format!("{:#}", Abi::default().section(source).unwrap_err());
            assert!(error.contains(says), "{error}");
        };
        refuses("pub struct S { pub a: u64 }", "S: not repr(C)");
        refuses("#[repr(C)] pub struct S { pub a: usize }", "S: a: the layout of usize is not known");
        refuses("pub const N: u64 = OTHER;", "N: OTHER is not defined");
    }
}
