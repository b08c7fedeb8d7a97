//! Debian's own kernel, unaltered: fetched from the machine's apt sources, with a small initramfs of ours.

use super::archive::{Entry, newc};
use crate::cache::{Cache, Key, sorted_names};
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that names the newest kernel of the series.
const META_PACKAGE: &str = "linux-image-6.12-cloud-amd64";

/// What the root disk and the network need beyond what is built in; modprobe's order is computed.
const NEEDED_MODULES: &[&str] = &["virtio_blk", "virtio_net"];

/// A kernel ready to boot.
pub struct Vendor {
    pub version: String,
    pub vmlinuz: PathBuf,
    pub initramfs: PathBuf,
    /// `lib/modules/VERSION`, with its indexes.
    pub modules: PathBuf,
}

/// Fetches and unpacks it, or finds that done.
pub fn build(tree: &Tree, cache: &Cache) -> Result<Vendor> {
    let package = package()?;
    let init = tree.root().join("mk/image/initramfs");
    let key = Key::new("vendor 2").text(&package).path(&init)?;
    let folder = cache.stage("vendor", &key.finish(), |out| {
        let mut step = Step::begin(cache, "vendor Linux", 15)?;
        let download = tempfile::tempdir_in(out)?;
        let mut command = Command::new("apt-get");
        command.args(["-q", "download", "-o", "APT::Sandbox::User=root", &package]).current_dir(download.path());
        step.run(&mut command, "the download of Debian's kernel")?;
        let names = sorted_names(download.path())?;
        let Some(file) = names.iter().find(|name| name.ends_with(".deb")) else {
            bail!("apt-get download {package} gave no package");
        };
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(download.path().join(file)).arg(out.join("package"));
        step.run(&mut command, "the unpacking of Debian's kernel")?;
        let modules = out.join("package/lib/modules");
        let version = sorted_names(&modules)?.into_iter().next().context("Debian's kernel has no modules")?;
        let mut command = Command::new("/sbin/depmod");
        command.arg("-b").arg(out.join("package")).arg(&version);
        step.run(&mut command, "the index of the modules")?;
        fs::rename(out.join(format!("package/boot/vmlinuz-{version}")), out.join("vmlinuz"))?;
        fs::write(out.join("initramfs"), initramfs(&modules.join(&version), &init)?)?;
        fs::write(out.join("version"), &version)?;
        step.done();
        Ok(())
    })?;
    let version = fs::read_to_string(folder.join("version"))?;
    let modules = folder.join("package/lib/modules").join(&version);
    Ok(Vendor { version, vmlinuz: folder.join("vmlinuz"), initramfs: folder.join("initramfs"), modules })
}

/// The actual package and its version, `NAME=VERSION`, as apt would install it.
fn package() -> Result<String> {
    let meta = candidate(META_PACKAGE)?;
    let output = Command::new("apt-cache").args(["depends", "--important", &meta]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-6.12"))
        .with_context(|| format!("{META_PACKAGE} depends on no kernel package"))?;
    candidate(name)
}

fn candidate(name: &str) -> Result<String> {
    let output = Command::new("apt-cache").args(["policy", name]).output().context("cannot run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().find_map(|line| line.trim().strip_prefix("Candidate: ")) {
        Some(version) if version != "(none)" => Ok(format!("{name}={version}")),
        _ => bail!(
            "apt knows no package {name}: it is in Debian 12's security suite; check the apt sources, then apt-get update"
        ),
    }
}

fn initramfs(modules: &Path, files: &Path) -> Result<Vec<u8>> {
    let busybox = fs::read("/bin/busybox").context("cannot read /bin/busybox (package busybox-static)")?;
    let init = fs::read(files.join("init"))?;
    let mut entries = vec![
        Entry::folder("bin"),
        Entry::folder("modules"),
        Entry::file("bin/busybox", 0o755, busybox),
        Entry::file("init", 0o755, init),
    ];
    let mut order = Vec::new();
    let dependencies = fs::read_to_string(modules.join("modules.dep")).context("cannot read modules.dep")?;
    for module in NEEDED_MODULES {
        load_order(&dependencies, module, &mut order)?;
    }
    let mut names = String::new();
    for path in order {
        let file = modules.join(&path);
        let stem = file_stem(&path);
        let content = if path.ends_with(".xz") {
            let output = Command::new("xz").arg("-dc").arg(&file).output().context("cannot run xz")?;
            if !output.status.success() {
                bail!("xz cannot unpack {}", file.display());
            }
            output.stdout
        } else {
            fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
        };
        names.push_str(&format!("{stem}.ko\n"));
        entries.push(Entry::file(&format!("modules/{stem}.ko"), 0o644, content));
    }
    entries.push(Entry::file("modules.order", 0o644, names.into_bytes()));
    Ok(newc(&entries))
}

/// `kernel/drivers/net/virtio_net.ko.xz` -> `virtio_net`
fn file_stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

/// Appends what `module` needs, what is needed first coming first, and itself. A module that is built in has no file and no
/// line, which is as good.
fn load_order(dependencies: &str, module: &str, order: &mut Vec<String>) -> Result<()> {
    let line = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(path, _)| file_stem(path).replace('-', "_") == module);
    let Some((path, needs)) = line else { return Ok(()) };
    // modules.dep lists what must be loaded, the last first.
    for needed in needs.split_whitespace().rev().chain([path]) {
        if !order.iter().any(|loaded| loaded == needed) {
            order.push(needed.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::load_order;

    #[test]
    fn modules_load_after_what_they_need_and_once() {
        let dependencies = "kernel/net/core/failover.ko.xz:\n\
            kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz\n\
            kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz\n\
            kernel/drivers/block/virtio_blk.ko.xz:\n";
        let mut order = Vec::new();
        for module in ["virtio_blk", "virtio_net", "virtio_net", "built_in"] {
            load_order(dependencies, module, &mut order).unwrap();
        }
        let names: Vec<&str> = order.iter().map(|path| super::file_stem(path)).collect();
        assert_eq!(names, ["virtio_blk", "failover", "net_failover", "virtio_net"]);
    }
}
