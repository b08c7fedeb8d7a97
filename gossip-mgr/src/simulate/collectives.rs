//! Experiments with the collectives under LogP.

use std::path::Path;
use std::time::Instant;

use anyhow::bail;
use gossip_core::collective::Time;
use gossip_core::collective::broadcast::Plan;
use gossip_core::collective::correction::CorrectionKind;
use gossip_core::collective::topology::{Tree, TreeKind};
use gossip_core::rng::Rng;
use gossip_sim::allreduce;
use gossip_sim::experiments::{LOGP, When, fail_proof as fail_proof_plan, gossip, overlapped, phased, sample};
use gossip_sim::fail_proof::{Check, Losses, check};
use gossip_sim::faults::Faults;

use super::plot::{Axis, plot};

/// What `simulate broadcast` is to run.
pub struct Broadcasts<'a> {
    /// P.
    pub processes: u32,
    /// Runs for each figure with faults.
    pub runs: u64,
    /// Percentages of processes that fail.
    pub percents: &'a [u32],
    /// When they fail.
    pub when: When,
    /// f of fail-proof correction.
    pub faults: u32,
    /// What the names of the algorithms contain that are run.
    pub only: &'a str,
    /// What all random choices depend on.
    pub seed: u64,
}

/// An algorithm, and with how many failures it promises to reach all; none if it never does.
struct Algorithm {
    name: String,
    plan: Plan,
    promise: Option<u32>,
}

impl Broadcasts<'_> {
    fn algorithms(&self) -> anyhow::Result<Vec<Algorithm>> {
        let p = self.processes;
        let offline_only = Some(if self.when == When::Before { u32::MAX } else { 0 });
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        // A plan may be large, so those that are not wanted are not made.
        let mut add = |name: String, promise, plan: &dyn Fn() -> Plan| match name.contains(self.only) {
            true => chosen.push(Algorithm { name, plan: plan(), promise }),
            false => others.push(name),
        };
        let f = self.faults;
        for (name, kind) in [
            ("binomial", TreeKind::Binomial),
            ("4-ary", TreeKind::KAry(4)),
            ("Lame k=2", TreeKind::Lame(2)),
            ("optimal", TreeKind::Optimal),
        ] {
            let opportunistic = CorrectionKind::Opportunistic { distance: 2, optimised: true };
            add(format!("{name}, uncorrected"), Some(0), &|| overlapped(kind, CorrectionKind::None, p));
            add(format!("{name}, opportunistic d=2"), Some(0), &|| overlapped(kind, opportunistic, p));
            add(format!("{name}, phased checked"), offline_only, &|| phased(kind, p));
            add(format!("{name}, fail-proof f={f}"), Some(f), &|| fail_proof_plan(Some(kind), f, p));
        }
        let opportunistic = CorrectionKind::Opportunistic { distance: 4, optimised: false };
        add("gossip k=13, opportunistic d=4".into(), None, &|| gossip(13, opportunistic, p));
        add("gossip k=6, checked".into(), offline_only, &|| gossip(6, CorrectionKind::Checked, p));
        add(format!("gossip k=6, fail-proof f={f}"), Some(f), &|| fail_proof_plan(None, f, p));
        if chosen.is_empty() {
            bail!("--only: no algorithm's name contains '{}'; there are: {}", self.only, others.join("; "));
        }
        Ok(chosen)
    }
}

/// See `simulate broadcast`.
pub fn broadcast(what: &Broadcasts, plots: Option<&Path>) -> anyhow::Result<bool> {
    let p = what.processes;
    let algorithms = what.algorithms()?;
    let when = match what.when {
        When::Before => "before",
        When::During => "at random moments during",
    };
    say!(
        "{p} processes of which some fail {when} the broadcast; means of {} runs ± deviation of one, or one run where \
         nothing is random",
        what.runs
    )?;
    say!(
        "{:32} {:>8} {:>14} {:>15} {:>11} {:>9} {:>9}  promise",
        "",
        "failing",
        "messages",
        "steps",
        "not",
        "share",
        "complete"
    )?;
    say!("{:32} {:>8} {:>14} {:>15} {:>11} {:>9} {:>9}", "", "", "a process", "", "reached", "reached", "runs")?;
    let mut good = true;
    let mut curves = Vec::new();
    for Algorithm { name, plan, promise } in &algorithms {
        let mut points = Vec::new();
        for &percent in what.percents {
            let count = (u64::from(p) * u64::from(percent) / 100) as u32;
            let runs = if count == 0 && !plan.is_random() { 1 } else { what.runs };
            let seeds = (0..runs).map(|run| Rng::new(what.seed, run).next());
            let sample = sample(plan, LOGP, count, what.when, seeds);
            let (load, load_deviation) = sample.load();
            let (runtime, deviation) = sample.runtime();
            let promised = promise.is_some_and(|most| count <= most);
            let kept = sample.complete() == 1.0;
            say!(
                "{name:32} {percent:6} % {load:7.2} ± {load_deviation:4.2} {runtime:8.1} ± {deviation:4.1} {:11.2} {:8.4} % \
                 {:7.1} %  {}",
                sample.unreached(),
                100.0 * sample.reached(),
                100.0 * sample.complete(),
                match (promised, kept) {
                    (false, _) => "none",
                    (true, true) => "kept",
                    (true, false) => "BROKEN",
                }
            )?;
            good &= kept || !promised;
            points.push((f64::from(percent), runtime));
        }
        curves.push((name.as_str(), points));
    }
    let name = match what.when {
        When::Before => "broadcast",
        When::During => "broadcast-online",
    };
    let title = format!("Processes that fail {when} the broadcast");
    let axes = (Axis::linear("% failing"), Axis::logarithmic("steps", 10.0));
    plot(plots, name, &title, axes, &curves)?;
    Ok(good)
}

/// See `simulate fail-proof`.
pub fn fail_proof(
    processes: u32,
    faults: u32,
    starts: u8,
    losses: Losses,
    plots: Option<&Path>,
) -> anyhow::Result<bool> {
    let names: Vec<String> = (1..=faults).map(|f| format!("f = {f}")).collect();
    let mut curves = Vec::new();
    for (f, name) in (1..).zip(&names) {
        let mut points = Vec::new();
        for p in 2..=processes {
            let begin = Instant::now();
            let report = check(&Check {
                kind: CorrectionKind::FailProof { faults: f },
                processes: p,
                faults: f,
                losses,
                starts,
                delay: 1,
            });
            say!(
                "P = {p:2}, f = {f}: {} cases, {} executions, {:.1} s",
                report.cases,
                report.executions,
                begin.elapsed().as_secs_f64()
            )?;
            points.push((f64::from(p), report.executions as f64));
            if let Some(found) = report.counter_example {
                say!("counter-example: {found:?}")?;
                return Ok(false);
            }
        }
        curves.push((name.as_str(), points));
    }
    let axes = (Axis::linear("P"), Axis::logarithmic("executions", 10.0));
    plot(plots, "fail-proof", "Executions without a counter-example", axes, &curves)?;
    Ok(true)
}

/// See `simulate allreduce`.
pub fn allreduces(timeout: Time, plots: Option<&Path>) -> anyhow::Result<bool> {
    let mut good = true;
    say!("time-outs until all live processes have the sum (time-out {timeout} steps)")?;
    say!(
        "     P    none   1 fault  2 serial  2 parallel  2 serial + 1  root, worst of all moments   messages (1 fault)"
    )?;
    let names = ["none", "1 fault", "2 serial", "2 parallel", "2 serial + 1 parallel", "root at its worst moment"];
    let mut curves = names.map(|name| (name, Vec::new()));
    for processes in [8, 16, 32, 64, 128, 256, 512, 1024] {
        let tree = Tree::new(TreeKind::Binomial, processes, LOGP)?;
        let run = |failures: &[(u32, Time)]| {
            let faults = Faults::explicit(processes, failures);
            allreduce::run(&tree, LOGP, &faults, timeout, 100 * timeout)
        };
        let fine = |outcome: &allreduce::Outcome, serial: f64| {
            let measured = outcome.latency as f64 / timeout as f64;
            (measured - serial).abs() <= 0.1 * serial.max(1.0)
                && outcome.without_result + outcome.left_out + outcome.wrong == 0
                && outcome.results == 1
        };
        // 1 is the parent of 3; 2 and 4 are in other subtrees.
        let cases: [(&[(u32, Time)], f64); 5] = [
            (&[], 0.0),
            (&[(1, 0)], 1.0),
            (&[(1, 0), (3, 0)], 2.0),
            (&[(1, 0), (2, 0)], 1.0),
            (&[(1, 0), (3, 0), (4, 0)], 2.0),
        ];
        let mut latencies = Vec::new();
        for (failures, serial) in cases {
            let outcome = run(failures);
            good &= fine(&outcome, serial);
            latencies.push(outcome.latency);
        }
        let mut worst = 0;
        for at in 0..=latencies[0] {
            let outcome = run(&[(0, at)]);
            // Early enough it costs a time-out, late nothing.
            good &= fine(&outcome, 1.0) || fine(&outcome, 0.0);
            worst = worst.max(outcome.latency);
        }
        latencies.push(worst);
        let mut row = format!("{processes:6}");
        for (latency, (_, points)) in latencies.iter().zip(&mut curves) {
            let measured = *latency as f64 / timeout as f64;
            row += &format!("   {measured:6.3}  ");
            points.push((f64::from(processes), measured));
        }
        say!("{row}   {}", run(&[(1, 0)]).messages)?;
    }
    let axes = (Axis::logarithmic("P", 2.0), Axis::linear("time-outs"));
    plot(plots, "allreduce", "Allreduce: delay by faults", axes, &curves)?;
    Ok(good)
}
