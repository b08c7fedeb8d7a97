//! The base of the image: Debian 12 from the machine's own apt sources, and the modules of vendor Linux. Apart from the
//! project's own programs, so that a change of these does not fetch Debian anew.

use super::vendor::Vendor;
use crate::cache::{Cache, Key};
use crate::progress::Step;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "bookworm";

/// What the image contains beyond the essential packages.
const PACKAGES: &str = "apt,bash,ca-certificates,gdb,strace,python3,openmpi-bin,openssh-server,openssh-client,iproute2,\
                        iputils-ping,procps,kmod,less,nano,netbase,util-linux,login,passwd,mount,\
                        systemd";

/// Documentation and translations, which the image does without.
const LEFT_OUT: &[&str] = &["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"];

/// What is changed in Debian once it is installed; mmdebstrap gives the folder as $1.
const CHANGES: &[&str] = &[
    // Root without a password: it logs in on the console and through the host's loopback address only.
    "chroot \"$1\" passwd -q -d root",
    // Every boot that is asked for a way in by ssh makes keys of its own.
    "rm -f \"$1\"/etc/ssh/ssh_host_*",
    // The linker finds it without a new run of ldconfig.
    "ln -s /usr/local/lib/libdecouple.so \"$1\"/usr/lib/x86_64-linux-gnu/libdecouple.so",
];

/// Makes base.ext4 of $ARCHIVE and the modules. The file system is complete from the start: nothing of it is left for a
/// kernel to initialise while it is being measured.
const MAKE_FILE_SYSTEM: &str = r#"set -e
mkdir root && cd root
tar -xpf "$ARCHIVE" --exclude='./dev/*'
mkdir -p usr/lib/modules
cp -a "$MODULES" usr/lib/modules/
chown -R 0:0 usr/lib/modules
cd ..
/sbin/mke2fs -q -t ext4 -L tacet -m 0 -E root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 -d root base.ext4 "$SIZE"
rm -rf root
"#;

/// Size of the file system, bytes. The file is sparse.
const SIZE: &str = "1536M";

/// Makes the base, or finds it made.
pub fn build(cache: &Cache, vendor: &Vendor) -> Result<PathBuf> {
    let archive = debian(cache)?;
    let key =
        Key::new("base 1").text(MAKE_FILE_SYSTEM).text(SIZE).text(&archive.to_string_lossy()).text(&vendor.version);
    let folder = cache.stage("base", &key.finish(), |out| {
        let mut step = Step::begin(cache, "Debian's file system", 30)?;
        // Under fakeroot the files keep root as their owner, whoever runs mk.
        let mut command = Command::new("fakeroot");
        command.args(["sh", "-c", MAKE_FILE_SYSTEM]).current_dir(out);
        command.env("ARCHIVE", &archive).env("MODULES", &vendor.modules).env("SIZE", SIZE);
        step.run(&mut command, "the making of the file system")?;
        step.done();
        Ok(())
    })?;
    Ok(folder.join("base.ext4"))
}

/// Debian alone, as a tar. It takes minutes and changes only with the list of packages and the machine's sources.
fn debian(cache: &Cache) -> Result<PathBuf> {
    let sources = sources()?;
    let options = apt_options()?;
    let key = Key::new("debian 5").text(PACKAGES).text(&LEFT_OUT.join("\n")).text(&CHANGES.join("\n"));
    let key = key.text(&sources.join("\n")).text(&options.join("\n"));
    let folder = cache.stage("debian", &key.finish(), |out| {
        let mut step = Step::begin(cache, "Debian image", 240)?;
        step.run(&mut mmdebstrap(out, &sources, &options), "mmdebstrap")?;
        step.done();
        Ok(())
    })?;
    Ok(folder.join("root.tar"))
}

fn mmdebstrap(out: &Path, sources: &[String], options: &[String]) -> Command {
    let mut command = Command::new("mmdebstrap");
    // Its folders are removed with ours if it is interrupted. An ordinary user's works as users of a namespace, who cannot
    // enter our folder: its own lies where everybody may.
    if nix::unistd::geteuid().is_root() {
        command.env("TMPDIR", out);
    }
    command.args(["--variant=minbase", "--format=tar", &format!("--include={PACKAGES}")]);
    // The sources are the machine's, so what its apt is told about them holds in the image too.
    command.args(options.iter().map(|option| format!("--aptopt={option}")));
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\""]);
    // Lists stay, compressed, so that `apt list` answers without a network.
    command.args(["--skip=cleanup/apt/lists", "--aptopt=Acquire::GzipIndexes \"true\""]);
    command.args(LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.args(CHANGES.iter().map(|change| format!("--customize-hook={change}")));
    command.arg(SUITE).arg(out.join("root.tar")).args(sources);
    command
}

/// What the machine's apt is told about fetching: proxies, and how old a list may be.
fn apt_options() -> Result<Vec<String>> {
    let output = Command::new("apt-config").arg("dump").output().context("cannot run apt-config")?;
    Ok(select_options(&String::from_utf8_lossy(&output.stdout)))
}

fn select_options(dump: &str) -> Vec<String> {
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::Check-"];
    let told = |line: &&str| wanted.iter().any(|start| line.starts_with(start)) && !line.ends_with(" \"\";");
    dump.lines().filter(told).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

/// The machine's apt sources for the suite, as lines of a sources.list.
fn sources() -> Result<Vec<String>> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)", "Created-By: Packages"])
        .output()
        .context("cannot run apt-get")?;
    let lines = select_sources(&String::from_utf8_lossy(&output.stdout));
    if !lines.iter().any(|line| line.contains(" bookworm main")) {
        bail!("this machine's apt has no lists of Debian 12 (bookworm): add its sources, then run apt-get update");
    }
    Ok(lines)
}

/// From lines `ORIGIN|ADDRESS|CODENAME|COMPONENT`: Debian's own for the suite, each once.
fn select_sources(listed: &str) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for line in listed.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        if let ["Debian", address, codename, "main"] = fields[..]
            && matches!(codename.strip_prefix(SUITE), Some("" | "-updates" | "-security"))
        {
            lines.insert(format!("deb {} {codename} main", address.trim_end_matches('/')));
        }
    }
    lines.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{select_options, select_sources};

    #[test]
    fn only_debians_own_sources_of_the_suite_are_taken_each_once() {
        let listed = "\
Debian|http://mirror/debian/|bookworm|main
Debian|http://mirror/debian/|bookworm|main
Debian|http://mirror/debian/|bookworm|contrib
Debian|http://mirror/security|bookworm-security|main
Debian|http://mirror/debian/|bookworm-backports|main
Debian|http://mirror/debian/|trixie|main
Somebody|http://other/|bookworm|main
";
        let expected = ["deb http://mirror/debian bookworm main", "deb http://mirror/security bookworm-security main"];
        assert_eq!(select_sources(listed), expected);
    }

    #[test]
    fn options_about_fetching_are_passed_on_and_empty_ones_are_not() {
        let dump = "\
APT::Install-Suggests \"0\";
Acquire::http::Proxy \"http://cache:3142\";
Acquire::https::Proxy \"\";
Acquire::Check-Valid-Until \"false\";
";
        let expected = ["Acquire::http::Proxy \"http://cache:3142\"", "Acquire::Check-Valid-Until \"false\""];
        assert_eq!(select_options(dump), expected);
    }
}
