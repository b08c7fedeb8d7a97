//! Programs in C build with the header and the shared library, without a warning; what they call is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn libraries() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    assert!(folder.join("libscr.so").exists());
    folder
}

fn build(source: &Path, to: &Path) {
    let built = Command::new("mpicc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I", concat!(env!("CARGO_MANIFEST_DIR"), "/include")])
        .arg(source)
        .arg("-o")
        .arg(to)
        .arg("-L")
        .arg(libraries())
        .arg("-lscr")
        .status();
    assert!(built.expect("mpicc: install libopenmpi-dev").success(), "{}", source.display());
}

fn run(program: &Path) -> Output {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", libraries()).env("GOSSIP_CHECKPOINT_SOCKET", "/nowhere/agent");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.output().unwrap()
}

#[test]
fn the_examples_build_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["heat", "overhead"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.c"));
        build(&source, &dir.path().join(name));
    }
}

const WRONG_ORDER: &str = r#"
#include <mpi.h>
#include <scr.h>
#include <stdlib.h>
#include <string.h>

/* Returns the number of the check that failed. */
int main(int argc, char **argv)
{
	char name[SCR_MAX_FILENAME];
	const char *value;
	int flag = 7;

	if (SCR_Need_checkpoint(&flag) != SCR_FAILURE || flag != 0)
		return 1;
	if (SCR_Route_file("x", name) != SCR_FAILURE || SCR_Have_restart(&flag, NULL) != SCR_FAILURE)
		return 2;
	if (SCR_Start_output(NULL, SCR_FLAG_CHECKPOINT | SCR_FLAG_OUTPUT) != SCR_FAILURE || SCR_Complete_output(1) != SCR_FAILURE)
		return 3;
	if (SCR_Init() != SCR_FAILURE || SCR_Finalize() != SCR_FAILURE)
		return 4;
	value = SCR_Configf("SCR_JOB_NAME=%s%d", "job", 7);
	if (!value || strcmp(value, "job7"))
		return 5;
	free((void *)value);
	value = SCR_Config("SCR_JOB_NAME");
	if (!value || strcmp(value, "job7"))
		return 6;
	free((void *)value);
	if (SCR_Config("SCR_JOB_NAME=") || SCR_Config("SCR_JOB_NAME") || SCR_Config(NULL))
		return 7;
	if (strncmp(SCR_Get_version(), "3.", 2))
		return 8;
	SCR_Config("SCR_JOB_NAME=../up");
	MPI_Init(&argc, &argv);
	/* Such a name, and no agent. */
	if (SCR_Init() != SCR_FAILURE)
		return 9;
	MPI_Finalize();
	return 0;
}
"#;

#[test]
fn calls_at_the_wrong_time_fail_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("order.c"), dir.path().join("order"));
    std::fs::write(&source, WRONG_ORDER).unwrap();
    build(&source, &program);
    let output = run(&program);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("call SCR_Init first") && text.contains("call SCR_Init after MPI_Init"), "{text}");
    assert!(text.contains("SCR_JOB_NAME: `../up` is no name"), "{text}");
}
