//! Linux for Tacet: Debian's source with the port's patches, built in a tree of the cache that is kept for the next time,
//! so that a change of one file compiles that file.

use crate::cache::{Cache, Key};
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARBALL: &str = "/usr/src/linux-source-6.12.tar.xz";
/// In the kernel tree: which files of the port were copied into it.
const COPIED: &str = ".port-files";

/// What was built.
pub struct Linux {
    /// An ELF without debug information.
    pub vmlinux: PathBuf,
    /// `lib/modules`: a folder with one folder for this Linux.
    pub modules: PathBuf,
}

/// Builds it, or finds it built.
pub fn build(tree: &Tree, cache: &Cache) -> Result<Linux> {
    let patches = tree.root().join("linux-guest-patches");
    let tarball =
        fs::metadata(TARBALL).with_context(|| format!("cannot read {TARBALL} (package linux-source-6.12)"))?;
    // The package's content changes only with its version, and then so do size and time; reading 140 MB each time is slow.
    let source = format!("{} {:?}", tarball.len(), tarball.modified()?);
    let prepared =
        Key::new("linux tree 2").text(&source).path(&patches.join("patches"))?.path(&patches.join("prepare"))?;
    let abi = tree.root().join("vcpu/abi");
    let key = Key::new("linux 2")
        .text(&source)
        .path(&patches.join("patches"))?
        .path(&patches.join("files"))?
        .path(&patches.join("config"))?
        .path(&abi)?;
    let folder = cache.stage("linux", &key.finish(), |out| {
        // A stage of its own: the tree stays for the next build, whatever becomes of this one.
        let source_tree = cache.stage("linux-tree", &prepared.finish(), |into| {
            let mut step = Step::begin(cache, "Linux source and patches", 40)?;
            let mut command = Command::new("sh");
            command.arg(patches.join("prepare")).arg(TARBALL).arg(into.join("linux"));
            step.run(&mut command, "linux-guest-patches/prepare")?;
            step.done();
            let copied = names(&patches.join("files"), Path::new(""))?;
            Ok(fs::write(into.join("linux").join(COPIED), copied.join("\n"))?)
        })?;
        make(tree, cache, &patches, &abi, &source_tree.join("linux"), out)
    })?;
    Ok(Linux { vmlinux: folder.join("vmlinux"), modules: folder.join("lib/modules") })
}

fn make(tree: &Tree, cache: &Cache, patches: &Path, abi: &Path, source: &Path, out: &Path) -> Result<()> {
    let mut step = Step::begin(cache, "Linux for Tacet", 700)?;
    remove_gone(source, &names(&patches.join("files"), Path::new(""))?)?;
    let mut command = Command::new("rsync");
    // By content, so that what did not change keeps its time and is not compiled again.
    command.args(["-rlpc", "--exclude=*.o", "--exclude=.*.cmd"]).arg(patches.join("files/")).arg(source);
    step.run(&mut command, "the copying of the port's files")?;
    write_if_new(&source.join("arch/um/include/asm/mk_abi.h"), &header(tree, abi)?)?;
    write_if_new(&source.join(".config.port"), &fs::read(patches.join("config"))?)?;
    // Only a changed configuration is applied anew: it would touch .config and with it everything.
    if !same(&source.join(".config.port"), &source.join(".config.applied")) || !source.join(".config").is_file() {
        fs::copy(source.join(".config.port"), source.join(".config"))?;
        step.run(gnu_make(source).arg("olddefconfig"), "the configuration of Linux")?;
        fs::copy(source.join(".config.port"), source.join(".config.applied"))?;
    }
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    step.run(gnu_make(source).arg(format!("-j{cores}")).args(["vmlinux", "modules"]), "the build of Linux")?;
    let mut command = gnu_make(source);
    command.arg(format!("INSTALL_MOD_PATH={}", out.display())).arg("INSTALL_MOD_STRIP=1").arg("modules_install");
    step.run(&mut command, "the installation of Linux's modules")?;
    let mut command = Command::new("objcopy");
    command.arg("--strip-debug").arg(source.join("vmlinux")).arg(out.join("vmlinux"));
    step.run(&mut command, "objcopy of vmlinux")?;
    step.done();
    Ok(())
}

fn gnu_make(source: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["make", "ARCH=um", "SUBARCH=x86_64", "-C"]).arg(source);
    // The compiler's messages are looked at by people and programs: in English.
    command
        .env("LC_ALL", "C.UTF-8")
        .env_remove("MAKEFLAGS")
        .env("KBUILD_BUILD_USER", "mk")
        .env("KBUILD_BUILD_HOST", "tacet");
    command
}

/// The kernel interface as a C header.
fn header(tree: &Tree, abi: &Path) -> Result<Vec<u8>> {
    let configuration = abi.join("cbindgen.toml");
    let config = cbindgen::Config::from_file(&configuration)
        .map_err(|error| anyhow::anyhow!("{}: {error}", configuration.display()))?;
    let bindings =
        cbindgen::Builder::new().with_config(config).with_crate(abi).generate().with_context(|| {
            format!("cbindgen cannot make a C header from {}", tree.root().join("vcpu/abi").display())
        })?;
    let mut header = Vec::new();
    bindings.write(&mut header);
    if header.is_empty() {
        bail!("cbindgen made an empty header from {}", abi.display());
    }
    Ok(header)
}

fn write_if_new(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// Removes what an earlier build copied into the kernel tree and the port does not have any more, and notes what is copied now.
fn remove_gone(source: &Path, present: &[String]) -> Result<()> {
    for name in fs::read_to_string(source.join(COPIED))?.lines() {
        let path = source.join(name);
        if !present.iter().any(|other| other == name) && path.is_file() {
            fs::remove_file(&path)?;
        }
    }
    Ok(fs::write(source.join(COPIED), present.join("\n"))?)
}

/// All files below a folder, by their paths from there.
fn names(folder: &Path, place: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in crate::cache::sorted_names(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            all.extend(names(&path, &place.join(&name))?);
        } else if !name.ends_with(".o") && !name.ends_with(".cmd") {
            all.push(place.join(&name).to_string_lossy().into_owned());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_port_has_no_more_leaves_the_kernel_tree_and_others_stay() {
        let tree = tempfile::tempdir().unwrap();
        for name in ["kept", "gone", "linux's"] {
            fs::write(tree.path().join(name), "").unwrap();
        }
        fs::write(tree.path().join(COPIED), "kept\ngone").unwrap();
        remove_gone(tree.path(), &["kept".to_owned(), "new".to_owned()]).unwrap();
        let there = crate::cache::sorted_names(tree.path()).unwrap();
        assert_eq!(there, [COPIED, "kept", "linux's"]);
        assert_eq!(fs::read_to_string(tree.path().join(COPIED)).unwrap(), "kept\nnew");
    }
}
