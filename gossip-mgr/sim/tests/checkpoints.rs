//! The checkpoint model against a simulation of the same failures.

use gossip_checkpoint_model::choice::{Offer, Setting};
use gossip_checkpoint_model::{Cost, FailureGroup, Failures, Job, LevelKind};
use gossip_sim::checkpoints::{Run, overhead};

const JOB: Job = Job { nodes: 4_096, ranks: 4_096, work_s: 86_400.0 };

fn failures() -> Failures {
    let group = |name: &str, size, mtbf_hours| FailureGroup { name: name.into(), size, mtbf_hours };
    Failures {
        rank_mtbf_hours: 2_000.0,
        node_mtbf_hours: 4_000.0,
        groups: vec![group("switch", 32, 20_000.0), group("row", 1_024, 100.0), group("power", 4_096, 100.0)],
        burst_buffer_mtbf_hours: 20.0,
        replace_s: 60.0,
    }
}

fn cost(blocking_s: f64, background_s: f64, restart_s: f64) -> Cost {
    Cost { blocking_s, background_s, restart_s }
}

/// Whether model and simulation agree within 3 % of the overhead, and three standard errors of it are less.
fn agree(job: &Job, failures: &Failures, levels: &[Offer], runs: u64) {
    let setting = Setting::new(job, failures, levels).unwrap();
    let pattern = setting.optimise();
    let simulated = overhead(Run { job, failures, setting: &setting, pattern: &pattern }, runs, 7);
    let (model, share) = (pattern.overhead(), pattern.overhead() / simulated.value);
    assert!(3.0 * simulated.error < 0.03 * simulated.value, "{simulated:?}: more runs are needed");
    assert!((share - 1.0).abs() < 0.03, "{levels:?}: model {model}, simulated {simulated:?}");
}

#[test]
fn one_level_under_all_failures() {
    agree(&JOB, &failures(), &[(LevelKind::ParallelFs, cost(20.0, 0.0, 90.0))], 800);
}

#[test]
fn two_levels() {
    let levels = [(LevelKind::Local, cost(2.0, 0.0, 2.0)), (LevelKind::ParallelFs, cost(120.0, 0.0, 180.0))];
    agree(&JOB, &failures(), &levels, 400);
}

#[test]
fn five_levels() {
    let levels = [
        (LevelKind::Local, cost(2.0, 0.0, 2.0)),
        (LevelKind::Xor { group: 8 }, cost(6.0, 0.0, 70.0)),
        (LevelKind::Partner, cost(9.0, 0.0, 68.0)),
        (LevelKind::BurstBuffer, cost(60.0, 0.0, 120.0)),
        (LevelKind::ParallelFs, cost(120.0, 0.0, 180.0)),
    ];
    agree(&JOB, &failures(), &levels, 800);
}

#[test]
fn five_levels_written_in_the_background() {
    let levels = [
        (LevelKind::Local, cost(2.0, 0.0, 2.0)),
        (LevelKind::ReedSolomon { data: 6, parity: 2 }, cost(2.5, 10.0, 70.0)),
        (LevelKind::Partner, cost(3.0, 20.0, 68.0)),
        (LevelKind::BurstBuffer, cost(8.0, 100.0, 120.0)),
        (LevelKind::ParallelFs, cost(14.0, 300.0, 180.0)),
    ];
    agree(&JOB, &failures(), &levels, 1_500);
}

#[test]
fn a_level_that_cannot_restore_all_alone() {
    // A failure of the whole power supply starts the job over.
    let job = Job { work_s: 20_000.0, ..JOB };
    let levels = [(LevelKind::Local, cost(2.0, 0.0, 2.0)), (LevelKind::Partner, cost(9.0, 0.0, 68.0))];
    agree(&job, &failures(), &levels, 10_000);
}

#[test]
fn same_seed_same_lifetime() {
    let failures = failures();
    let setting = Setting::new(&JOB, &failures, &[(LevelKind::ParallelFs, cost(20.0, 0.0, 90.0))]).unwrap();
    let pattern = setting.optimise();
    let run = Run { job: &JOB, failures: &failures, setting: &setting, pattern: &pattern };
    assert_eq!(overhead(run, 5, 1), overhead(run, 5, 1));
    assert_ne!(overhead(run, 5, 1), overhead(run, 5, 2));
}
