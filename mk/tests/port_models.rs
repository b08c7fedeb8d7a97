//! The models of the Linux port: C programs that include the port's own text, built and run on the host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// So many steps in a row find each wrong variant, and take a second where nothing is wrong.
const LENGTH: &str = "9";

fn build(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linux-guest-patches/tests").join(format!("{name}.c"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{:?}", std::thread::current().id()));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source);
    assert!(gcc.status().expect("gcc starts").success(), "{} does not compile", source.display());
    program
}

fn run(program: &Path, variant: &str) -> Output {
    Command::new(program).args([LENGTH, variant]).output().expect("the model starts")
}

#[test]
fn whoever_reads_or_runs_an_extended_state_has_the_newest() {
    let output = run(&build("fpu-home-model"), "kernel");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_model_of_the_extended_state_catches_wrong_bookkeeping() {
    let program = build("fpu-home-model");
    for variant in [
        "four-flags",
        "four-flags-refused",
        "core-wins-over-a-write",
        "owner-is-not-asked",
        "left-without-saving",
        "refused-counts-as-loaded",
        "gone-over-without-saving",
    ] {
        assert_eq!(run(&program, variant).status.code(), Some(1), "{variant} is not caught");
    }
}
