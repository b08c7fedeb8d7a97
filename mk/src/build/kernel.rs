//! The microkernel and the root task, for x86_64-unknown-none.

use super::newc_archive;
use crate::cache::{Cache, Key};
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-none";

/// What was built.
pub struct Kernel {
    /// The microkernel, a PVH ELF.
    pub microkernel: PathBuf,
    /// The root task's ELF.
    pub root: PathBuf,
    /// The tests that run in its place.
    pub ktest: PathBuf,
    /// Addresses and names of the microkernel's functions, in the form of `nm -n`.
    pub symbols: PathBuf,
}

/// A Rust that can build for a machine without an operating system.
pub enum Toolchain {
    /// The cargo first in PATH, whose rustup has the target's core library.
    Rustup,
    /// Debian's packages; they bring core's source and build it along.
    Debian,
}

impl Toolchain {
    /// The one to use here: rustup's where it has the target, else Debian's.
    pub fn find() -> Result<Self> {
        let library = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
        if let Ok(output) = library {
            let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() && !folder.starts_with("/usr/lib") && Path::new(&folder).is_dir() {
                return Ok(Self::Rustup);
            }
        }
        let source = Path::new("/usr/bin/rustc").is_file()
            && Path::new("/usr/bin/cargo").is_file()
            && Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output().is_ok_and(|output| {
                let root = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                Path::new(&root).join("lib/rustlib/src/rust/library/core").exists()
            });
        if source {
            return Ok(Self::Debian);
        }
        bail!(
            "no Rust for {TARGET}: either `rustup target add {TARGET}`, or Debian's packages rustc-web, cargo-web and \
             rust-web-src (`mk setup`)"
        )
    }

    /// A cargo that builds for the target; verb and packages are the caller's.
    pub fn cargo(&self, verb: &str) -> Command {
        let mut command;
        match self {
            Self::Rustup => {
                command = Command::new("cargo");
                command.arg(verb);
            }
            Self::Debian => {
                // Named by path, with its compiler, so that a rustup first in PATH or a rust-toolchain file does not meddle.
                command = Command::new("/usr/bin/cargo");
                command
                    .arg(verb)
                    .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"])
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
            }
        }
        // Flags of the user's for his own programs would replace those in .cargo/config.toml.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").args(["--target", TARGET]);
        command
    }

    /// Name and version, for keys and for people.
    pub fn describe(&self) -> String {
        let (program, origin) = match self {
            Self::Rustup => ("rustc", "rustup"),
            Self::Debian => ("/usr/bin/rustc", "Debian"),
        };
        let version = Command::new(program).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        format!("{} ({origin})", version.unwrap_or_default())
    }
}

/// Builds all, or finds it built.
pub fn build(tree: &Tree, cache: &Cache) -> Result<Kernel> {
    let folder =
        compile(tree, cache, "kernel", "microkernel and root task", &["microkernel", "root", "ktest"], &[], &[])?;
    Ok(Kernel {
        microkernel: folder.join("microkernel"),
        root: folder.join("root"),
        ktest: folder.join("ktest"),
        symbols: folder.join("symbols"),
    })
}

/// What the fuzzer runs: a microkernel that can check itself, with assertions on.
pub struct CheckedKernel {
    pub microkernel: PathBuf,
    /// The fuzzer, in the root task's place.
    pub kfuzz: PathBuf,
    pub symbols: PathBuf,
}

impl CheckedKernel {
    /// The boot archive with the fuzzer.
    pub fn archive(&self) -> Result<Vec<u8>> {
        Ok(newc_archive(&[("root", &fs::read(&self.kfuzz)?), ("symbols", &fs::read(&self.symbols)?)]))
    }
}

/// Builds the fuzzer and its kernel, or finds them built.
pub fn build_checked(tree: &Tree, cache: &Cache) -> Result<CheckedKernel> {
    let folder = compile(
        tree,
        cache,
        "kernel-check",
        "checked microkernel and fuzzer",
        &["microkernel", "kfuzz"],
        &["--features", "microkernel/check"],
        &["CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS"],
    )?;
    Ok(CheckedKernel {
        microkernel: folder.join("microkernel"),
        kfuzz: folder.join("kfuzz"),
        symbols: folder.join("symbols"),
    })
}

/// The folder with the programs, and the symbols of the microkernel. `settings`: variables of cargo's that are set to true.
fn compile(
    tree: &Tree,
    cache: &Cache,
    stage: &str,
    title: &str,
    programs: &[&str],
    options: &[&str],
    settings: &[&str],
) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let mut key = Key::new("kernel 5").text(&toolchain.describe());
    for part in ["Cargo.toml", "Cargo.lock", ".cargo", "microkernel", "vcpu"] {
        key = key.path(&tree.root().join(part))?;
    }
    cache.stage(stage, &key.finish(), |out| {
        let mut step = Step::begin(cache, title, 90)?;
        let target = cache.work_for(tree.root(), stage)?;
        let mut command = toolchain.cargo("build");
        command.arg("--release").args(programs.iter().flat_map(|program| ["-p", program])).args(options);
        command
            .arg("--target-dir")
            .arg(&target)
            // The object layer is a crate of its own, and what waits for one of its locks calls the kernel: built as one, a
            // lock on a fast path costs no call and no saved registers.
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .envs(settings.iter().map(|name| (name, "true")))
            .current_dir(tree.root());
        step.run(&mut command, "the build of the microkernel")?;
        for name in programs {
            let built = target.join(TARGET).join("release").join(name);
            fs::copy(&built, out.join(name)).with_context(|| format!("cargo did not make {}", built.display()))?;
        }
        fs::write(out.join("symbols"), symbols(&out.join("microkernel"))?)?;
        step.done();
        Ok(())
    })
}

/// The functions of an ELF by address.
fn symbols(elf: &Path) -> Result<String> {
    let output = Command::new("nm").args(["-n", "--demangle"]).arg(elf).output().context("cannot run nm (binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter(|line| line.contains(" t ") || line.contains(" T "))
        .map(|line| format!("{line}\n"))
        .collect())
}
