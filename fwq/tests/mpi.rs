//! `mpi-fwq` under the installed Open MPI, two ranks.
#![cfg(feature = "mpi")]

use std::path::Path;
use std::process::{Command, Output};

use fwq::record::Recording;

fn mpirun(dir: &Path, args: &[&str]) -> Output {
    Command::new("mpirun")
        .args(["-n", "2", "--oversubscribe", "--bind-to", "none", env!("CARGO_BIN_EXE_mpi-fwq")])
        .args(args)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        // Open MPI's session folder: two mpiruns that start at once stumble over a shared one.
        .env("TMPDIR", dir)
        .current_dir(dir)
        .output()
        .expect("mpirun (package openmpi-bin)")
}

#[test]
fn two_ranks_measure_in_both_modes() {
    for mode in ["step", "start"] {
        let dir = tempfile::tempdir().unwrap();
        let out = mpirun(
            dir.path(),
            &["--mode", mode, "--samples", "30", "--work", "8", "--warmup", "5", "--json", "r.json"],
        );
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let r = Recording::read(&dir.path().join("r.json")).unwrap();
        assert_eq!((r.ranks.len(), r.samples), (2, 30));
        assert!(r.mpi.unwrap().contains("Open MPI"));
        assert_ne!(r.ranks[0].placement.pid, r.ranks[1].placement.pid);
        assert_eq!(r.step_cost.is_some(), mode == "step");
        for rank in &r.ranks {
            let name = format!("mpi-fwq_{}_times.dat", rank.rank);
            let times = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(times.lines().map(|l| l.parse::<u64>().unwrap()).eq(rank.ticks.iter().copied()));
        }
    }
}

#[test]
fn one_message_and_status_two_whichever_rank_is_wrong() {
    for (args, what) in [
        (vec!["--samples", "0"], "0 is not in 1.."),
        (vec!["--out", "/proc/no/such"], "/proc/no"),
        (vec!["--cpus", "0"], "rank 1 is left without one"),
        (vec!["--cpus", "0,1000"], "rank 1: cannot run on CPU 1000"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = mpirun(dir.path(), &args);
        let message = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {message}");
        assert_eq!(message.matches(what).count(), 1, "{args:?}: {message}");
    }
}
