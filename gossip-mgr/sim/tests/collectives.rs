//! Guarantees of the collectives, by simulation.

use gossip_core::collective::broadcast::{Dissemination, Phasing, Plan};
use gossip_core::collective::correction::CorrectionKind;
use gossip_core::collective::topology::{Tree, TreeKind};
use gossip_core::rng::Rng;
use gossip_sim::broadcast::run;
use gossip_sim::experiments::{LOGP, When, fail_proof, gossip, overlapped, phased, sample};
use gossip_sim::faults::Faults;
use gossip_sim::{allreduce, broadcast};

#[test]
fn same_seed_same_trace() {
    let plan = gossip(6, CorrectionKind::Checked, 500);
    let trace = |seed| {
        let faults = Faults::offline(500, 25, &mut Rng::new(seed, 1));
        run(&plan, LOGP, &faults, seed).trace
    };
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

#[test]
fn checked_correction_reaches_all_in_a_hundred_thousand_runs_with_offline_faults() {
    let mut rng = Rng::new(2024, 0);
    let mut runs = 0;
    while runs < 100_000 {
        let processes = 2 + rng.below(126) as u32;
        let plan = match rng.below(5) {
            0 => phased(TreeKind::Binomial, processes),
            1 => phased(TreeKind::Lame(2), processes),
            2 => phased(TreeKind::KAry(4), processes),
            3 => overlapped(TreeKind::Optimal, CorrectionKind::Checked, processes),
            _ => gossip(2, CorrectionKind::Checked, processes),
        };
        for _ in 0..50 {
            let dead = rng.below(u64::from(processes)) as u32;
            let faults = Faults::offline(processes, dead, &mut rng);
            let outcome = run(&plan, LOGP, &faults, runs);
            assert_eq!(outcome.unreached, 0, "run {runs}: {outcome:?}");
            runs += 1;
        }
    }
}

#[test]
fn fail_proof_reaches_all_despite_online_faults() {
    let mut rng = Rng::new(7, 0);
    for runs in 0..5_000 {
        let processes = 2 + rng.below(126) as u32;
        let faults = rng.below(5) as u32;
        let tree = Tree::new(TreeKind::Binomial, processes, LOGP).unwrap();
        let deadline = tree.deadline();
        let kind = CorrectionKind::FailProof { faults };
        let plan = Plan::new(processes, Dissemination::Tree(tree), kind, Phasing::Synchronised).unwrap();
        let faults = Faults::online(processes, faults, deadline + 20, &mut rng);
        let outcome = run(&plan, LOGP, &faults, runs);
        assert_eq!(outcome.unreached, 0, "run {runs}: {outcome:?}");
    }
}

#[test]
fn every_algorithm_is_told_apart_by_what_it_reaches_when_processes_fail_during_the_broadcast() {
    let optimal = Some(TreeKind::Optimal);
    let reached = |plan, failing| {
        let sample = sample(&plan, LOGP, failing, When::During, 0..200);
        (sample.reached(), sample.complete())
    };
    // Up to f failures, fail-proof correction reaches all in every run, whatever the first phase.
    for tree in [optimal, Some(TreeKind::KAry(4)), None] {
        assert_eq!(reached(fail_proof(tree, 5, 512), 5), (1.0, 1.0));
    }
    // Without a promise: most, and hardly anybody without correction.
    let (checked, _) = reached(phased(TreeKind::Optimal, 512), 25);
    let (none, complete) = reached(overlapped(TreeKind::Optimal, CorrectionKind::None, 512), 25);
    assert!(checked > 0.999, "{checked}");
    assert!(none < 0.99 && complete < 0.5, "{none} {complete}");
}

#[test]
fn opportunistic_correction_does_not_promise_to_reach_all() {
    let kind = CorrectionKind::Opportunistic { distance: 2, optimised: false };
    let plan = overlapped(TreeKind::Binomial, kind, 4096);
    assert!(sample(&plan, LOGP, 400, When::Before, 0..5).unreached() > 0.0);
}

#[test]
fn interleaving_keeps_gaps_and_so_the_runtime_small() {
    let runtime = |kind| sample(&phased(kind, 1024), LOGP, 5, When::Before, 0..40).runtime().0;
    let (interleaved, in_order) = (runtime(TreeKind::Binomial), runtime(TreeKind::BinomialInOrder));
    // The reference has 50 against 70, a mean over few runs of a heavy-tailed quantity.
    assert!((48.0..52.0).contains(&interleaved), "{interleaved}");
    assert!(in_order > interleaved + 5.0, "{in_order}");
}

fn serial_chain(tree: &Tree, length: usize) -> Vec<(u32, u64)> {
    // Downwards from the root's last inner child, so that the chain ends in a live subtree if any.
    let mut chain = Vec::new();
    let mut at = 1;
    while chain.len() < length {
        chain.push((at, 0));
        at = tree.children(at)[0];
    }
    chain
}

#[test]
fn allreduce_is_delayed_by_the_longest_serial_chain_whatever_the_size() {
    const TIMEOUT: u64 = 2_000;
    for processes in [8, 16, 64, 256, 1024] {
        let tree = Tree::new(TreeKind::Binomial, processes, LOGP).unwrap();
        let latency = |failures: &[(u32, u64)]| {
            let faults = Faults::explicit(processes, failures);
            let outcome = allreduce::run(&tree, LOGP, &faults, TIMEOUT, 100 * TIMEOUT);
            assert_eq!(
                (outcome.without_result, outcome.left_out, outcome.wrong),
                (0, 0, 0),
                "P={processes} {failures:?}: {outcome:?}"
            );
            outcome.latency as f64 / TIMEOUT as f64
        };
        assert!(latency(&[]) < 0.1);
        for length in 1..=2 {
            let chain = serial_chain(&tree, length);
            let measured = latency(&chain);
            assert!((measured / length as f64 - 1.0).abs() < 0.1, "{chain:?}: {measured}");
        }
        // Two parallel faults cost one; a third that is parallel to two serial ones adds nothing.
        assert!((latency(&[(1, 0), (2, 0)]) - 1.0).abs() < 0.1);
        let mut three = serial_chain(&tree, 2);
        three.push((4, 0));
        assert!((latency(&three) / 2.0 - 1.0).abs() < 0.1);
        // The root is no exception.
        assert!((latency(&[(0, 0)]) - 1.0).abs() < 0.1);
    }
}

#[test]
fn allreduce_gives_every_live_process_a_true_sum_under_random_faults() {
    let mut rng = Rng::new(11, 0);
    for case in 0..400 {
        let processes = 2 + rng.below(100) as u32;
        let kind = [TreeKind::Binomial, TreeKind::KAry(3), TreeKind::Optimal][rng.below(3) as usize];
        let tree = Tree::new(kind, processes, LOGP).unwrap();
        let count = rng.below(u64::from(processes.min(8))) as u32;
        let faults = if case % 2 == 0 {
            Faults::offline(processes, count, &mut rng)
        } else {
            Faults::online(processes, count, 2_000, &mut rng)
        };
        let outcome = allreduce::run(&tree, LOGP, &faults, 1_000, 1_000_000);
        assert_eq!((outcome.without_result, outcome.results, outcome.wrong), (0, 1, 0), "case {case}: {outcome:?}");
        if case % 2 == 0 {
            assert_eq!(outcome.left_out, 0, "case {case}: {outcome:?}");
        }
    }
}

#[test]
fn a_corrected_tree_over_65536_processes_is_simulated_in_passing() {
    let outcome: broadcast::Outcome =
        sample(&phased(TreeKind::Optimal, 65_536), LOGP, 655, When::Before, 0..1).outcomes[0];
    assert_eq!(outcome.unreached, 0);
    assert_eq!(outcome.failed, 655);
}

/// All live processes hold the same true sum; at most `serial` time-outs went by.
fn agreed(tree: &Tree, failures: &[(u32, u64)], serial: u64) {
    const TIMEOUT: u64 = 2_000;
    let faults = Faults::explicit(tree.len(), failures);
    let outcome = allreduce::run(tree, LOGP, &faults, TIMEOUT, 100 * TIMEOUT);
    let context = format!("P={} {failures:?}: {outcome:?}", tree.len());
    assert_eq!(outcome.without_result, 0, "{context}");
    assert_eq!((outcome.results, outcome.left_out, outcome.wrong), (1, 0, 0), "{context}");
    assert!(outcome.latency <= serial * TIMEOUT + TIMEOUT / 10, "{context}");
}

#[test]
fn a_root_that_dies_at_any_moment_of_an_allreduce_costs_a_timeout_and_no_agreement() {
    for processes in [2, 3, 8, 31, 64, 256] {
        for kind in [TreeKind::Binomial, TreeKind::KAry(3), TreeKind::Optimal] {
            let tree = Tree::new(kind, processes, LOGP).unwrap();
            for at in 0..=2 * tree.deadline() + 10 {
                agreed(&tree, &[(0, at)], 1);
            }
        }
    }
}

#[test]
fn the_root_and_any_other_process_may_die_at_any_two_moments_of_an_allreduce() {
    let tree = Tree::new(TreeKind::Binomial, 8, LOGP).unwrap();
    for other in 1..8 {
        for at in 0..=32 {
            for other_at in (0..=32).chain([1_000, 2_000, 2_010, 2_020]) {
                agreed(&tree, &[(0, at), (other, other_at)], 3);
            }
        }
    }
}
