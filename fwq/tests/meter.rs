//! The meter's bookkeeping, driven event by event through `meter_harness.c`, and read back by the reader.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use fwq::meter::{Counts, Meter};

static HARNESS: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("meter_harness");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/meter_harness.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-w", "-pthread", "-o"]).arg(&program).arg(source);
    assert!(gcc.status().expect("gcc, which also links this test").success());
    program
});

/// Run the events on two vCPUs. `begin V R` and `end V R` stand for a rank marker and a quantum marker in one block.
fn meter(events: &str) -> Meter {
    let mut script = String::new();
    for event in events.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match event.split(' ').collect::<Vec<_>>()[..] {
            [what @ ("begin" | "end"), v, rank] => {
                let letter = if what == "begin" { 'B' } else { 'E' };
                script += &format!("b {v} 1 0 0\nm {v} {rank} R 0\nb {v} 1 0 0\nm {v} {letter} S 0\n");
            }
            _ => script += &format!("{event}\n"),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("meter.csv");
    let mut child = Command::new(HARNESS.as_path()).arg(&out).arg("2").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    Meter::read(&out).unwrap()
}

#[test]
fn a_quantum_counts_from_behind_its_begin_to_its_end() {
    let m = meter("m 0 3 J 0\n b 0 50 0 0\n begin 0 0\n b 0 100 0 0\n end 0 0\n b 0 9 0 0");
    assert_eq!(m.quanta.len(), 1);
    let q = m.quanta[0];
    assert_eq!((q.run, q.rank, q.vcpu, q.gap), (Some(3), Some(0), 0, None));
    // 100 of work, the rank marker and the end marker.
    assert_eq!(q.counts.total(), 102);
    assert_eq!(m.vcpus[0].user, 50 + 2 + 100 + 2 + 9);
}

#[test]
fn kernel_blocks_count_as_one_entry_until_user_code_runs_again() {
    let m = meter(
        "m 0 1 J 0\n begin 0 0\n b 0 10 0 0\n b 0 5 1 0\n b 0 6 1 0\n b 0 10 0 1\n b 0 7 1 0\n i 0\n b 0 1 0 0\n end 0 0",
    );
    assert_eq!(m.quanta[0].counts, Counts { user: 10 + 10 + 1 + 2, kernel: 18, entries: 2, syscalls: 1, idles: 1 });
}

#[test]
fn what_another_core_does_is_not_this_quantums() {
    let m = meter("m 0 1 J 0\n begin 0 0\n b 1 1000 1 0\n b 0 10 0 0\n end 0 0");
    assert_eq!(m.quanta[0].counts.total(), 12);
}

#[test]
fn ranks_that_share_a_core_keep_their_quanta_apart() {
    let m = meter(
        "m 0 1 J 0
         begin 0 0
         b 0 40 0 0
         b 0 5 1 0
         begin 0 1
         b 0 30 0 0
         b 0 5 1 0
         b 0 60 0 0
         end 0 0
         b 0 5 1 0
         b 0 70 0 0
         end 0 1",
    );
    let of = |rank| m.of(1, rank).next().unwrap().counts.total();
    // Rank 0: own 40 + 60 + 2; beside it two kernel passages, rank 1's begin and 30 of its work.
    assert_eq!(of(0), 40 + 60 + 2 + 10 + 2 + 30);
    // Rank 1: own 30 + 70 + 2; beside it two kernel passages, 60 of rank 0's work and rank 0's end.
    assert_eq!(of(1), 30 + 70 + 2 + 10 + 60 + 2);
}

#[test]
fn a_rank_marker_that_does_not_stand_directly_before_is_not_believed() {
    let m = meter("m 0 1 J 0\n b 0 1 0 0\n m 0 4 R 0\n b 0 3 0 0\n m 0 B S 0\n b 0 10 0 0\n m 0 E S 0");
    assert_eq!(m.quanta.len(), 1);
    assert_eq!((m.quanta[0].rank, m.quanta[0].counts.total()), (None, 10));
}

#[test]
fn a_quantum_that_changes_cores_is_marked_and_not_counted() {
    let m = meter("m 0 1 J 0\n begin 0 0\n b 0 10 0 0\n b 1 10 0 0\n end 1 0");
    assert!(m.quanta[0].migrated);
    assert_eq!(m.quanta[0].counts.total(), 0);
    assert_eq!(m.quanta[0].vcpu, 1);
}

#[test]
fn gaps_lie_between_quanta_of_one_run_only() {
    let m = meter(
        "begin 0 0\n end 0 0\n m 0 1 J 0\n b 0 1 0 0\n begin 0 0\n end 0 0\n b 0 20 0 1\n b 0 8 1 0\n b 0 1 0 0\n begin 0 0\n end 0 0\n m 0 1 j 0\n begin 0 0\n end 0 0",
    );
    assert_eq!(m.quanta.len(), 4);
    assert_eq!(m.quanta[0].run, None);
    assert_eq!(m.quanta[1].gap, None);
    let gap = m.quanta[2].gap.unwrap();
    // 20 and 1 of the program, its next rank and begin markers; the kernel's 8.
    assert_eq!((gap.user, gap.kernel, gap.entries, gap.syscalls), (23, 8, 1, 1));
    assert_eq!((m.quanta[3].run, m.quanta[3].gap), (None, None));
}

#[test]
fn an_end_without_a_begin_is_no_quantum() {
    assert!(meter("m 0 1 J 0\n b 0 5 0 0\n end 0 0").quanta.is_empty());
}

#[test]
fn windows_count_on_every_core() {
    let m = meter("b 1 3 1 0\n b 0 2 0 0\n m 0 7 W 0\n b 0 10 0 1\n b 1 100 1 0\n b 0 20 1 0\n m 0 7 w 1\n m 0 7 w 1");
    assert_eq!(m.windows.len(), 2);
    let [here, there] = [m.windows[0], m.windows[1]];
    assert_eq!((here.id, here.vcpu, here.counts.user, here.counts.kernel), (7, 0, 10, 20));
    assert_eq!((here.counts.entries, here.counts.syscalls), (1, 1));
    assert_eq!((there.vcpu, there.counts.kernel, there.counts.entries), (1, 100, 0));
}

#[test]
fn a_rep_instruction_counts_once_whatever_its_iterations() {
    let m = meter(
        "b 0 3 1 0\n r 0 64 1\n r 0 64 1\n r 0 64 1\n b 0 2 1 0\n r 0 64 1\n r 0 80 1\n b 1 1 0 0\n r 1 8 0\n r 1 8 0",
    );
    // Three iterations, then again after two others, then another one.
    assert_eq!(m.vcpus[0].kernel, 3 + 1 + 2 + 1 + 1);
    assert_eq!(m.vcpus[1].user, 2);
}

/// Window 1 on vCPU 0 a hundred times, untraced; then three more, of which one ends on another vCPU.
#[test]
fn a_trace_holds_what_one_vcpu_executed_in_a_window() {
    let untraced = "m 0 1 W 0\nt 0 1\nm 0 1 w 0\n".repeat(100);
    let script = untraced
        + "t 0 2\nm 0 1 W 0\nt 0 3\nt 1 4\nt 0 5\nm 0 1 w 0\nt 0 6\n"
        + "m 0 1 W 0\nt 0 7\nm 1 1 w 0\nt 0 8\n"
        + "m 0 1 W 0\nt 0 9\nm 0 1 w 0\n";
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut child = Command::new(HARNESS.as_path())
        .arg(dir.path().join("meter.csv"))
        .arg("2")
        .arg(&trace)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "T,1,0\n3\n5\nT,1,0\n9\nend\n");
}
