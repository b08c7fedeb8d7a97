//! The image: Debian's base with the project's programs, scripts and settings put in by debugfs, which needs no privilege.

use super::tools::Tools;
use crate::cache::{Cache, Key, sorted_names};
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the image, or finds it made.
pub fn build(tree: &Tree, cache: &Cache, base: &Path, tools: &Tools, modules: &Path) -> Result<PathBuf> {
    let files = own_files(tree, tools, modules)?;
    let mut key = Key::new("image 2").text(&base.to_string_lossy());
    for (source, place) in &files {
        key = key.text(place).path(source)?;
    }
    let folder = cache.stage("image", &key.finish(), |out| {
        let mut step = Step::begin(cache, "image", 10)?;
        let image = out.join("image.ext4");
        let mut command = Command::new("cp");
        command.args(["--sparse=always", "--reflink=auto"]).arg(base).arg(&image);
        step.run(&mut command, "the copy of Debian's image")?;
        let commands = out.join("debugfs");
        fs::write(&commands, script(&files)?)?;
        let mut command = Command::new("/sbin/debugfs");
        command.args(["-w", "-f"]).arg(&commands).arg(&image);
        step.run(&mut command, "the installation of the programs into the image")?;
        fs::remove_file(commands)?;
        check(&image, &files)?;
        step.done();
        Ok(())
    })?;
    Ok(folder.join("image.ext4"))
}

/// Every file of ours with its place in the image.
fn own_files(tree: &Tree, tools: &Tools, modules: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files: Vec<(PathBuf, String)> = tools.files().map(|(path, place)| (path, place.to_owned())).collect();
    files.push((tree.root().join("decouple/include/decouple.h"), "/usr/local/include/decouple.h".to_owned()));
    files.push((
        tree.root().join("gossip-mgr/dist/gossip-mgr.service"),
        "/usr/lib/systemd/system/gossip-mgr.service".to_owned(),
    ));
    below(&tree.root().join("mk/image/files"), "", &mut files)?;
    below(modules, "/usr/lib/modules", &mut files)?;
    Ok(files)
}

fn below(folder: &Path, place: &str, files: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for name in sorted_names(folder)? {
        let path = folder.join(&name);
        let place = format!("{place}/{name}");
        // `build` and `source` point into the kernel tree, which the image does not have.
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            below(&path, &place, files)?;
        } else {
            files.push((path, place));
        }
    }
    Ok(())
}

/// debugfs's commands. It goes on after an error (a folder that exists, a file to be replaced that does not), so the result
/// is checked afterwards.
fn script(files: &[(PathBuf, String)]) -> Result<String> {
    let mut folders = BTreeSet::new();
    for (_, place) in files {
        let mut parent = Path::new(place).parent();
        while let Some(folder) = parent.filter(|folder| *folder != Path::new("/")) {
            folders.insert(folder.to_owned());
            parent = folder.parent();
        }
    }
    let mut script = String::new();
    for folder in folders {
        script.push_str(&format!("mkdir {}\n", folder.display()));
    }
    for (source, place) in files {
        let mode =
            fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?.permissions().mode();
        let mode = 0o100644 | (mode & 0o111);
        script.push_str(&format!("rm {place}\nwrite \"{}\" {place}\n", source.display()));
        script.push_str(&format!("sif {place} mode {mode:#o}\nsif {place} uid 0\nsif {place} gid 0\n"));
    }
    Ok(script)
}

fn check(image: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    for (source, place) in files {
        let output = Command::new("/sbin/debugfs").args(["-R", &format!("cat {place}")]).arg(image).output()?;
        if output.stdout != fs::read(source)? {
            bail!("debugfs did not put {place} into {}: is the image full?", image.display());
        }
    }
    Ok(())
}
