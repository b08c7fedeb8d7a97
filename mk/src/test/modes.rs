//! Programs that must not notice where they run: each is run undecoupled, decoupled, and moved to and fro while it runs.

use crate::build::Builder;
use crate::child::Running;
use crate::job::{self, Job, JobFile};
use crate::qemu::{Accelerator, Machine, System};
use crate::test::tally::Tally;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MODES: &[&str] = &["undecoupled", "decoupled", "moved"];

/// Most seconds that one program takes in one mode.
const SECONDS: u32 = 120;

/// Compiles `source` into the folder `bin`; statically, since the image has fewer libraries than this machine may have.
fn compile(root: &Path, source: &Path, bin: &Path) -> Result<PathBuf> {
    let name = source.file_stem().context("a source file without a name")?;
    let out = bin.join(name);
    let mut command = Command::new("gcc");
    command.args(["-static", "-O1", "-w", "-pthread", "-I"]).arg(root.join("linux-guest-patches/files/include/uapi"));
    command.arg("-o").arg(&out).arg(source).args(["-lrt", "-lm"]);
    if !Running::start(&mut command, "gcc")?.wait()?.success() {
        bail!("{} could not be compiled; the compiler's messages are above", source.display());
    }
    Ok(out)
}

/// The program that the file `path` makes: what is written in C is compiled, Python goes as it is, and all else is no program.
fn program(root: &Path, path: &Path, bin: &Path) -> Result<Option<Vec<u8>>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("c") => Ok(Some(fs::read(compile(root, path, bin)?)?)),
        Some("py") => Ok(Some([b"#!/usr/bin/python3\n".as_slice(), &fs::read(path)?].concat())),
        _ => Ok(None),
    }
}

/// What a job needs to run the programs of `folder` whose tests are wanted: its files, and a shell script that prints `ok` or
/// `not ok` for each in each mode, and what a program said that failed.
pub fn job_parts(builder: &Builder, folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(Vec<JobFile>, String)> {
    let root = builder.tree().root();
    let bin = builder.cache().work("guest-tests/modes")?;
    let in_mode = compile(root, &root.join("linux-guest-patches/tests/in-mode.c"), &bin)?;
    let mut files = vec![("modes/in-mode".to_owned(), fs::read(in_mode)?)];
    let mut script = format!(
        "in_mode() {{ if timeout -k 5 {SECONDS} modes/in-mode $2 modes/programs/$1 >/tmp/mode.out 2>&1; then echo \"ok $1 $2\"; \
         else s=$?; sed 's/^/# /' /tmp/mode.out; echo \"not ok $1 $2: status $s\"; fi; }}\n"
    );
    for file in crate::cache::sorted_names(folder)? {
        let path = folder.join(&file);
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let modes: Vec<_> = MODES.iter().filter(|mode| wanted(&format!("modes: {name} {mode}"))).collect();
        if modes.is_empty() {
            continue;
        }
        match program(root, &path, &bin) {
            Ok(None) => {}
            Ok(Some(content)) => {
                script.extend(modes.iter().map(|mode| format!("in_mode '{name}' {mode}\n")));
                files.push((format!("modes/programs/{name}"), content));
            }
            // The others of the folder still have their turn.
            Err(error) => {
                eprintln!("mk: {error:#}");
                script.extend(modes.iter().map(|mode| format!("echo 'not ok {name} {mode}: it does not compile'\n")));
            }
        }
    }
    Ok((files, script))
}

/// Boots once and runs the programs of any folder; every line that they print is shown.
pub fn run(builder: &Builder, folder: &Path, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let (mut files, script) = job_parts(builder, folder, &wanted)?;
    let script = format!("cd /run/job\n{{\n{script}}} 2>&1 | tee results/modes\nsync\nexit 0\n");
    files.push(("job.sh".to_owned(), script.into_bytes()));
    let (kernel, archive) = builder.tacet_archive()?;
    let image = builder.image()?;
    let programs = u32::try_from(files.len())?;
    let job = Job {
        machine: &Machine { cores: 3, memory: "1G".into(), accelerator: Accelerator::Tcg, extra: Vec::new() },
        system: System::Tacet { kernel: &kernel, archive: &archive, service_cores: 1 },
        image: &image,
        keep_image: false,
        files: &files,
        words: "",
        meter: None,
        timeout: Duration::from_secs(u64::from(60 + programs * 3 * SECONDS)),
    };
    let outcome = job::run(&job, |line| {
        if let Some(note) = line.and_then(|line| line.strip_prefix("# ")) {
            println!("  {note}");
        }
    })?;
    outcome.expect_success("the programs")?;
    let text = fs::read_to_string(outcome.results().join("modes"))?;
    super::guest::read_lines(&text, "modes", &wanted, tally);
    Ok(())
}
