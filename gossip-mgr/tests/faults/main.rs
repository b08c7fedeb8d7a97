//! Programs on eight nodes and random faults: the result is bit for bit that of the undisturbed run.
//!
//! `mk test jobs --faults 200 --seed 7` does as many as one likes and tells of each; `cargo test` does a few. Each node is a
//! network namespace with a daemon and a store of its own on a small file system in memory, and its ranks; two nodes are
//! spare, and one without ranks starts the job.

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod fault;
mod nodes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};

use cluster::{Cluster, HEAD, Program, RANKS, libraries};
use common::{BINARY, wait_for};
use fault::{ALL, Fault, Random};

const FAULTS_OF_A_RUN: usize = 11;
/// How many faults, and what they depend on.
const FAULTS: &str = "FAULTS";
const SEED: &str = "FAULTS_SEED";

fn build(source: &str, to: &Path, more: &[&str]) -> PathBuf {
    let scr = concat!(env!("CARGO_MANIFEST_DIR"), "/scr");
    let program = to.join(source);
    let status = Command::new("mpicc")
        .args(["-std=gnu11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-I{scr}/include"))
        .arg(format!("{scr}/examples/{source}.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(libraries())
        .arg("-lscr")
        .args(more)
        .status();
    assert!(status.expect("mpicc: install libopenmpi-dev").success());
    program
}

/// The heat equation for so many steps.
fn heat(steps: usize) -> impl FnOnce(&Path) -> Program {
    move |to| Program {
        name: "heat",
        path: build("heat", to, &[]),
        arguments: vec![steps.to_string(), "64".into()],
        pause: 10_000,
    }
}

/// Debian's LAMMPS for so many times four steps.
fn lammps(legs: usize) -> impl FnOnce(&Path) -> Program {
    move |to| Program {
        name: "lammps",
        path: build("lammps", to, &["-l:liblammps.so.0"]),
        arguments: vec![legs.to_string(), "4".into()],
        pause: 40_000,
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs a program again and again until there were `faults` faults.
fn endure(build: impl FnOnce(&Path) -> Program, faults: usize) {
    let mut random = Random::new(setting(SEED, 1) as u64);
    let mut cluster = Cluster::new(build);
    let (reference, output) = (cluster.at("reference"), cluster.at("output"));
    cluster.launch(false, &reference);
    assert!(cluster.finished().success(), "{}", cluster.log());
    let reference = fs::read(reference).unwrap();
    let (mut done, mut counts, mut started_over) = (0, BTreeMap::<Fault, u32>::new(), 0);
    while done < faults {
        fs::write(cluster.at("job.log"), "").unwrap();
        let _ = fs::remove_file(&output);
        let relaunch = |cluster: &mut Cluster| cluster.launch(true, &output);
        relaunch(&mut cluster);
        cluster.go_on(None, 3);
        let mut worst = Fault::Rank;
        for _ in 0..FAULTS_OF_A_RUN {
            if done >= faults || !cluster.is_running() {
                break;
            }
            // Each kind comes before any comes again.
            let fault = if done < ALL.len() { ALL[done] } else { ALL[random.below(ALL.len())] };
            let before = cluster.newest();
            cluster.inject(fault, &mut random, relaunch);
            cluster.go_on(before, 1 + random.below(6) as u32);
            done += 1;
            *counts.entry(fault).or_default() += 1;
            if !matches!(fault, Fault::Daemon | Fault::Head | Fault::Launcher | Fault::DiskFull) {
                worst = worst.max(fault);
            }
            eprintln!("{done} of {faults} faults: {fault:?}, newest {:?}", cluster.newest());
        }
        assert!(cluster.finished().success(), "{}", cluster.log());
        assert!(fs::read(&output).unwrap() == reference, "another result:\n{}", cluster.log());
        let over = cluster.log().matches("starts over").count();
        assert!(over == 0 || worst > Fault::Rank, "light faults lose nothing:\n{}", cluster.log());
        started_over += over;
        let told =
            |line: &&str| ["starts from", "starts over", "given up", "not used"].iter().any(|text| line.contains(text));
        cluster.log().lines().filter(told).for_each(|line| eprintln!("    {line}"));
    }
    eprintln!(
        "{done} faults {counts:?}: every result as undisturbed; the job said {started_over} times that it starts over"
    );
}

fn a_heat_equation_ends_with_the_undisturbed_result_whatever_fails() {
    let faults = setting(FAULTS, 10);
    endure(heat(200 + 120 * faults.min(FAULTS_OF_A_RUN)), faults);
}

fn lammps_ends_with_the_undisturbed_result_whatever_fails() {
    let faults = setting(FAULTS, 3);
    endure(lammps(60 + 20 * faults.min(FAULTS_OF_A_RUN)), faults);
}

fn a_node_that_fails_is_left_before_it_does() {
    let mut cluster = Cluster::new(heat(400));
    let output = cluster.at("output");
    cluster.launch(true, &output);
    cluster.go_on(None, 3);
    let node = cluster.busy()[3];
    fs::write(cluster.at(&format!("failing{node}")), "").unwrap();
    wait_for("the job makes way", || cluster.log().contains("makes way for a node that fails").then_some(()));
    wait_for("it runs elsewhere", || (cluster.busy().len() == RANKS).then_some(()));
    assert!(!cluster.busy().contains(&node), "{}", cluster.log());
    wait_for("the second attempt writes", || cluster.newest().filter(|&(attempt, _)| attempt == 2));
    let shown =
        Command::new(BINARY).args(["jobs", "--config"]).arg(cluster.at(&format!("{HEAD}.toml"))).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("heat") && shown.contains("attempt 2") && shown.contains("local"), "{shown}");
    assert!(cluster.finished().success() && cluster.log().contains("restarts at step"), "{}", cluster.log());
    assert!(!cluster.log().contains("starts over"), "{}", cluster.log());
}

/// Runs `test` in namespaces of its own where they are allowed: they go with it, and disks may run full.
fn in_namespaces(name: &str, test: fn()) {
    let Some(mut command) = nodes::run_inside(name) else {
        if !nodes::is_inside() {
            eprintln!("no namespaces here: all nodes are at one address, and no disk runs full");
        }
        return test();
    };
    // Its results are not the harness's.
    command.stdout(Stdio::null());
    if std::env::var_os(FAULTS).is_some() {
        assert!(command.status().unwrap().success());
    } else {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn main() {
    let has_lammps = Command::new("ldconfig").arg("-p").env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output();
    let has_lammps = has_lammps.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("liblammps.so.0"));
    let trial = |name: &'static str, test: fn(), is_possible: bool| {
        let run = move || {
            in_namespaces(name, test);
            Ok(())
        };
        let trial = Trial::test(name, run).with_ignored_flag(!is_possible);
        if is_possible { trial } else { trial.with_kind("needs liblammps0") }
    };
    let trials = vec![
        trial(
            "a_heat_equation_ends_with_the_undisturbed_result_whatever_fails",
            a_heat_equation_ends_with_the_undisturbed_result_whatever_fails,
            true,
        ),
        trial(
            "lammps_ends_with_the_undisturbed_result_whatever_fails",
            lammps_ends_with_the_undisturbed_result_whatever_fails,
            has_lammps,
        ),
        trial("a_node_that_fails_is_left_before_it_does", a_node_that_fails_is_left_before_it_does, true),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
