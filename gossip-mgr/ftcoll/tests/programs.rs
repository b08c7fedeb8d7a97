//! MPI programs with libftcoll before them, whose ranks are killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn library() -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().join("libftcoll.so");
    assert!(path.exists(), "cargo builds libftcoll.so beside the tests");
    path
}

fn build(source: &Path, to: &Path) {
    let built = Command::new("mpicc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"])
        .args(["-I", concat!(env!("CARGO_MANIFEST_DIR"), "/include")])
        .arg(source)
        .arg("-o")
        .arg(to)
        // For those that ask who took part; the others would not need it.
        .args(["-Wl,--as-needed", "-lm", "-lftcoll", "-L"])
        .arg(library().parent().unwrap())
        .status();
    assert!(built.expect("mpicc: install libopenmpi-dev").success(), "{}", source.display());
}

fn run(program: &Path, ranks: u32, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", "120", "mpirun", "--enable-recovery", "--oversubscribe", "--mca", "btl", "self,vader"])
        .args(["--mca", "mpi_yield_when_idle", "1", "-n", &ranks.to_string()])
        .arg("-x")
        .arg(format!("LD_PRELOAD={}", library().display()))
        .arg("-x")
        .arg(format!("LD_LIBRARY_PATH={}", library().parent().unwrap().display()))
        .envs(environment.iter().copied())
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    for (name, _) in environment {
        command.args(["-x", name]);
    }
    command.arg(program).args(args).output().expect("mpirun: install openmpi-bin")
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Program {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn example(name: &str) -> Program {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    build(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.c")), &path);
    Program { _dir: dir, path }
}

fn source(text: &str) -> Program {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("program.c"), dir.path().join("program"));
    std::fs::write(&source, text).unwrap();
    build(&source, &path);
    Program { _dir: dir, path }
}

/// The answers of those that live: all the same, all right.
fn answers(output: &Output, living: usize) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("rank ")?.split_once(": ").map(|(_, answer)| answer))
        .collect();
    assert_eq!(answers.len(), living, "{}", text(output));
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.ends_with("right")), "{}", text(output));
    answers[0].to_owned()
}

#[test]
fn a_monte_carlo_program_ends_with_the_right_answer_from_those_that_live() {
    let program = example("monte_carlo");
    let whole = answers(&run(&program.path, 8, &["60", "1000"], &[]), 8);
    assert!(whole.contains("from 480000 points"), "{whole}");
    // An inner process of the tree, a leaf, and then the root.
    let some = answers(&run(&program.path, 8, &["60", "1000", "1", "20", "7", "20", "0", "40"], &[]), 5);
    let expected = 1_000 * (8 * 20 + 6 * 20 + 5 * 20);
    assert!(some.contains(&format!("from {expected} points")), "{some}");
}

#[test]
fn all_but_one_may_die() {
    let program = example("monte_carlo");
    let kill: Vec<String> = (0..7).flat_map(|rank| [rank.to_string(), (5 + 3 * rank).to_string()]).collect();
    let mut args = vec!["40", "1000"];
    args.extend(kill.iter().map(String::as_str));
    answers(&run(&program.path, 8, &args, &[]), 1);
}

const ALL_KINDS: &str = r#"
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ftcoll.h"

static int wrong;

#define CHECK(what) do { if (!(what)) { wrong++; printf("line %d\n", __LINE__); } } while (0)

int main(int argc, char **argv)
{
	int rank, size;
	static int big[100000], sum[100000];

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	for (int root = 0; root < size; root++) {
		struct { double value; int place; } pair = { rank == root ? -1.5 : rank, rank }, least = { 0, -1 };
		char text[32] = "";
		int own = 1 << rank, all = 0;

		if (rank == root)
			snprintf(text, sizeof text, "from %d", root);
		MPI_Bcast(text, sizeof text, MPI_CHAR, root, MPI_COMM_WORLD);
		CHECK(atoi(text + 5) == root);
		MPI_Reduce(&own, &all, 1, MPI_INT, MPI_BOR, root, MPI_COMM_WORLD);
		CHECK(all == (rank == root ? (1 << size) - 1 : 0));
		MPI_Allreduce(&pair, &least, 1, MPI_DOUBLE_INT, MPI_MINLOC, MPI_COMM_WORLD);
		CHECK(least.value == -1.5 && least.place == root);
		for (int i = 0; i < 100000; i++)
			big[i] = rank == root ? i + root : 0;
		MPI_Bcast(big, 100000, MPI_INT, root, MPI_COMM_WORLD);
		CHECK(big[0] == root && big[99999] == 99999 + root);
		MPI_Allreduce(big, sum, 100000, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
		CHECK(sum[99999] == size * (99999 + root));
		MPI_Reduce(rank == root ? MPI_IN_PLACE : &own, &own, 1, MPI_INT, MPI_MAX, root, MPI_COMM_WORLD);
		CHECK(own == (rank == root ? 1 << (size - 1) : 1 << rank));
		MPI_Barrier(MPI_COMM_WORLD);
		MPI_Bcast(text, 0, MPI_CHAR, root, MPI_COMM_WORLD);
	}
	CHECK(ftcoll_contributors() == size && ftcoll_contributed(rank) && !ftcoll_contributed(size));
	printf("rank %d: %s\n", rank, wrong ? "wrong" : "right");
	fflush(stdout);
	MPI_Finalize();
	return 0;
}
"#;

#[test]
fn without_deaths_all_is_as_mpi_has_it() {
    let program = source(ALL_KINDS);
    for ranks in [1, 2, 5, 8] {
        answers(&run(&program.path, ranks, &[], &[]), ranks as usize);
    }
    answers(&run(&program.path, 6, &[], &[("FTCOLL_BCAST", "gossip")]), 6);
}

const DEAD_ROOT: &str = r#"
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include "ftcoll.h"

int main(int argc, char **argv)
{
	int rank, size, value = 7, error, again, sum = 1;

	MPI_Init(&argc, &argv);
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	if (rank == 2)
		raise(SIGKILL);
	error = MPI_Bcast(&value, 1, MPI_INT, 2, MPI_COMM_WORLD);
	MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	again = MPI_Bcast(&value, 1, MPI_INT, 2, MPI_COMM_WORLD);
	value = rank == 1 ? 9 : 0;
	MPI_Bcast(&value, 1, MPI_INT, 1, MPI_COMM_WORLD);
	printf("rank %d: %s\n", rank, error == MPI_ERR_OTHER && again == MPI_ERR_OTHER && sum == size - 1 && value == 9 &&
	       ftcoll_contributors() == size - 1 && !ftcoll_contributed(2) ? "right" : "wrong");
	fflush(stdout);
	MPI_Finalize();
	return 0;
}
"#;

#[test]
fn a_broadcast_whose_root_is_dead_fails_on_all_and_the_next_ones_go_on() {
    let output = run(&source(DEAD_ROOT).path, 6, &[], &[]);
    answers(&output, 5);
    assert!(text(&output).contains("rank 2, the root of a broadcast, died before"), "{}", text(&output));
}

#[test]
fn settings_that_make_no_sense_are_told() {
    let program = example("monte_carlo");
    let output = run(&program.path, 2, &["1", "1"], &[("FTCOLL_TIMEOUT_MS", "soon")]);
    assert!(
        text(&output).contains("FTCOLL_TIMEOUT_MS is `soon`: 10 to 3600000 milliseconds are allowed"),
        "{}",
        text(&output)
    );
    let output = run(&program.path, 2, &["1", "1"], &[("FTCOLL_BCAST", "shout")]);
    assert!(text(&output).contains("FTCOLL_BCAST is `shout`: tree and gossip"), "{}", text(&output));
}
