//! The `fwq` program as a user meets it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use fwq::record::Recording;

fn fwq(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwq")).args(args).current_dir(dir).output().unwrap()
}

fn refused(args: &[&str], what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let out = fwq(dir.path(), args);
    let message = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {message}");
    assert!(message.contains(what), "{args:?}: {message}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{args:?} left a file");
}

#[test]
fn a_measurement_leaves_one_tick_count_a_line_and_a_recording() {
    let dir = tempfile::tempdir().unwrap();
    let out =
        fwq(dir.path(), &["-n", "50", "-w", "8", "--warmup", "1", "--json", "r.json", "--run-id", "9", "-o", "sub"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let times = fs::read_to_string(dir.path().join("sub/fwq_0_times.dat")).unwrap();
    let times: Vec<u64> = times.lines().map(|l| l.parse().unwrap()).collect();
    let recording = Recording::read(&dir.path().join("r.json")).unwrap();
    assert_eq!(recording.ranks[0].ticks, times);
    assert_eq!((times.len(), recording.samples, recording.run_id), (50, 50, 9));
    assert_eq!(recording.own_insns, 66 * 256 + 17);
    assert!(!recording.machine.kernel.is_empty());
}

#[test]
fn threads_step_together() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-t", "2", "--mode", "step", "-n", "20", "-w", "6", "--warmup", "1", "--json", "r.json"];
    assert!(fwq(dir.path(), &args).status.success());
    let r = Recording::read(&dir.path().join("r.json")).unwrap();
    assert!(r.step_cost.unwrap().slowdown >= 1.0);
    for i in 0..19 {
        // Nobody begins step i + 1 before everybody has ended step i.
        let last_end = r.ranks.iter().map(|k| k.starts[i] + k.ticks[i]).max().unwrap();
        let first_begin = r.ranks.iter().map(|k| k.starts[i + 1]).min().unwrap();
        assert!(first_begin >= last_end, "step {i}");
    }
}

#[test]
fn bad_numbers_are_refused_before_anything_happens() {
    refused(&["-n", "0"], "0 is not in 1..");
    refused(&["-n", "99999999999"], "is not in 1..");
    refused(&["-n", "ten"], "invalid digit");
    refused(&["-n", "-5"], "unexpected argument");
    refused(&["-w", "2"], "2 is not in 3..");
    refused(&["-w", "31"], "31 is not in 3..");
    refused(&["--duration-us", "1"], "1 is not in 10..");
    refused(&["--warmup", "0"], "0 is not in 1..");
    refused(&["--run-id", "256"], "256 is not in 0..");
    refused(&["--detour-us", "nan"], "positive number");
    refused(&["-t", "0"], "0 is not in 1..");
    refused(&["-w", "10", "--iterations", "5"], "cannot be used with");
}

#[test]
fn bad_placement_is_refused() {
    refused(&["--cpus", "3-1", "-n", "1", "-w", "3"], "runs backwards");
    refused(&["--cpus", "0", "-t", "2", "-n", "1", "-w", "3"], "rank 1 is left without one");
    refused(&["--cpus", "1000", "-n", "1", "-w", "3"], "cannot run on CPU 1000");
    // One thread of two cannot be placed: both end.
    refused(&["--cpus", "0,1000", "-t", "2", "-n", "1", "-w", "3"], "cannot run on CPU 1000");
}

#[test]
fn outputs_that_cannot_be_written_are_found_first() {
    refused(&["-o", "/proc/no/such", "-n", "10000000", "-w", "30"], "/proc/no");
    refused(&["--json", "/dev/null/x.json", "-n", "10000000", "-w", "30"], "/dev/null/x.json");
}

#[test]
fn opcost_times_operations_and_gives_slow_ones_fewer_samples() {
    let dir = tempfile::tempdir().unwrap();
    // Not all: Python need not be here.
    let only = ["getppid", "signal", "fault", "pipe", "TCP", "fork"].map(|name| format!("--only={name}"));
    let out = Command::new(env!("CARGO_BIN_EXE_opcost"))
        .args(["-n", "200", "--json", "o.json"])
        .args(only)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success());
    let recording = fwq::ops::OpRecording::read(&dir.path().join("o.json")).unwrap();
    let samples = |name: &str| recording.ops.iter().find(|op| op.name == name).map(|op| op.ticks.samples);
    assert_eq!(recording.ops[0].id, fwq::ops::EMPTY);
    assert_eq!((samples("getppid"), samples("fork, exit, wait")), (Some(200), Some(20)));
    assert_eq!(samples("vfork, exec /bin/true, wait"), Some(5));
    assert_eq!(recording.ops.len(), 9, "{:?}", recording.ops);
}

#[test]
fn opcost_measures_only_what_it_is_asked_for() {
    let opcost =
        |only: &str| Command::new(env!("CARGO_BIN_EXE_opcost")).args(["-n", "10", "--only", only]).output().unwrap();
    let chosen = opcost("pipe");
    let text = String::from_utf8_lossy(&chosen.stdout);
    assert!(text.contains("pipe: a byte") && !text.contains("getppid"), "{text}");
    let none = opcost("teleport");
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no operation's name contains 'teleport'"));
}

#[test]
fn opcost_refuses_bad_numbers_and_places() {
    for (args, what) in [
        (["-n", "0"], "0 is not in 1.."),
        (["--cpu", "9999"], "cannot run on CPU 9999"),
        (["--json", "/proc/no/such"], "/proc/no/such"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_opcost")).args(args).output().unwrap();
        let message = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(what), "{args:?}: {message}");
    }
}
