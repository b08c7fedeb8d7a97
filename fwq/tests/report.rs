//! From recording and counts to report: the figures, the agreed fields, the judgement.

use std::path::Path;

use fwq::cli::Mode;
use fwq::engine::Clock;
use fwq::host::{Machine as Guest, Placement};
use fwq::meter::Meter;
use fwq::quantum::own_instructions;
use fwq::record::{Common, Part, Recording};
use fwq::report::{Activity, Machine, Report, Run, StormItem, System};
use serde_json::Value;

const ITERATIONS: u64 = 100;
const OWN: u64 = own_instructions(ITERATIONS);

/// Two ranks, four quanta each, in run 1; decoupled onto the cores 1 and 2 if `decoupled`.
fn recording(mode: Mode, decoupled: bool) -> Recording {
    let part = |core: u32| Part {
        placement: Placement { cpu: Some(0), decoupled_core: decoupled.then_some(core), ..Placement::default() },
        usage: None,
        clock: Clock { ticks: 1_000, nanoseconds: 1_000_000 },
        begin: 1000,
        end: 5200,
        starts: vec![1000, 2000, 3000, 4000],
        ticks: vec![900, 900, 950, 1100],
    };
    let common = Common {
        program: "mpi-fwq",
        mode,
        iterations: ITERATIONS,
        warmup: 1,
        run_id: 1,
        mpi: None,
        machine: Guest::default(),
        tsc_hz: Some(1e6),
        detour_us: 5.0,
    };
    Recording::assemble(common, vec![part(1), part(2)]).unwrap()
}

/// The meter's file for it; `kernel` and `entries` are those of rank 1's third quantum, `gap` the entries before it.
fn meter_text(kernel: u64, entries: u64, gap: u64) -> String {
    let mut text = String::from("tacet-meter,1,3\nV,0,0,0,0,0,0\nV,1,0,0,0,0,0\nV,2,0,0,0,0,0\n");
    for i in 0..4 {
        text += &format!("Q,1,0,1,0,{OWN},0,0,0,0,30,0,0,0,0\n");
        let (k, e, g) = if i == 2 { (kernel, entries, gap) } else { (0, 0, 0) };
        text += &format!("Q,1,1,2,0,{OWN},{k},{e},0,0,30,0,{g},{g},0\n");
    }
    text + "end,8,0\n"
}

fn run(system: System, activity: Activity, text: &str) -> Run {
    let decoupled = system == System::TacetDecoupled;
    let meter = Meter::parse(text, Path::new("m")).unwrap();
    Run::merge(system, activity, &recording(Mode::Step, decoupled), Some(&meter), Vec::new()).unwrap()
}

fn report(runs: impl IntoIterator<Item = Run>) -> Report {
    let mut report = Report::new(Machine::default());
    runs.into_iter().for_each(|r| report.push(r));
    report
}

#[test]
fn stolen_is_what_the_core_executed_beyond_the_quantums_own() {
    let run = run(System::Vendor, Activity::Quiet, &meter_text(500, 2, 0));
    let [untouched, hit] = &run.ranks[..] else { panic!() };
    assert_eq!((untouched.stolen_insns, untouched.quanta_hit), (Some(0), Some(0)));
    assert_eq!((hit.stolen_insns, hit.stolen_max), (Some(500), Some(500)));
    assert_eq!((hit.quanta_hit, hit.kernel_entries), (Some(1), Some(2)));
    let ppm = 500.0 * 1e6 / (4 * OWN + 500) as f64;
    assert!((hit.stolen_ppm.unwrap() - ppm).abs() < 1e-9);
    assert_eq!(hit.core, Some(2));
    assert_eq!((hit.cycles.min, hit.cycles.median, hit.cycles.max), (900, 900, 1100));
    assert!((hit.noise - 100.0 * 250.0 / 3850.0).abs() < 1e-9);
}

#[test]
fn the_json_has_the_agreed_fields() {
    let dir = tempfile::tempdir().unwrap();
    let mut stormy = run(System::VendorTuned, Activity::Storm, &meter_text(1, 1, 0));
    stormy.storm = vec![StormItem { name: "kprobes".into(), ran: true, ops: 37, note: String::new() }];
    let report = report([run(System::TacetDecoupled, Activity::Quiet, &meter_text(0, 0, 0)), stormy]);
    report.write(dir.path()).unwrap();
    let text = std::fs::read_to_string(dir.path().join("report.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert!(json["machine"].is_object());
    let runs = json["runs"].as_array().unwrap();
    let systems: Vec<&str> = runs.iter().map(|r| r["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["tacet-decoupled", "vendor-tuned"]);
    assert_eq!((&runs[1]["mode"], &runs[1]["activity"]), (&"step".into(), &"storm".into()));
    assert!(runs[0]["wall_s"].as_f64().unwrap() > 0.0);
    let rank = &runs[0]["ranks"][0];
    for field in [
        "rank",
        "core",
        "samples",
        "own_insns",
        "stolen_insns",
        "stolen_ppm",
        "stolen_max",
        "quanta_hit",
        "kernel_entries",
        "noise",
    ] {
        assert!(rank[field].is_number(), "{field}");
    }
    for field in ["min", "median", "p99", "p999", "max"] {
        assert!(rank["cycles"][field].is_number(), "cycles.{field}");
    }
    let html = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    // Two groups of five plots; nothing is loaded from anywhere.
    assert_eq!(html.matches("<svg").count(), 10);
    assert!(!html.contains("src=") && !html.contains("<link") && html.contains("kprobes"));
    let again = Report::read(dir.path()).unwrap();
    assert_eq!(again.table(), report.table());
}

#[test]
fn silence_passes_and_every_breach_fails() {
    let good = || run(System::TacetDecoupled, Activity::Quiet, &meter_text(0, 0, 0));
    let verdict = report([good()]).verdict();
    assert_eq!((verdict.failures.len(), verdict.warnings.len()), (0, 0), "{verdict:?}");

    let failure = |run: Run| report([run]).verdict().failures.join("; ");
    let stolen = run(System::TacetDecoupled, Activity::Quiet, &meter_text(1, 0, 0));
    assert!(failure(stolen).contains("1 instructions stolen, 1 of 4 quanta hit"));
    let entered = run(System::TacetDecoupled, Activity::Quiet, &meter_text(0, 1, 0));
    assert!(failure(entered).contains("1 entries into kernel mode"));
    let mut unlisted = good();
    unlisted.ranks[0].decoupled_core = None;
    assert!(failure(unlisted).contains("does not list it as decoupled"));
    let mut elsewhere = good();
    elsewhere.ranks[0].decoupled_core = Some(2);
    assert!(failure(elsewhere).contains("lists it on core 2"));
    let mut wandering = good();
    wandering.ranks[1].cores = vec![1, 2];
    assert!(failure(wandering).contains("not on one"));
    let blind = Run::merge(System::TacetDecoupled, Activity::Quiet, &recording(Mode::Step, true), None, Vec::new());
    assert!(failure(blind.unwrap()).contains("not metered"));
}

#[test]
fn without_a_decoupled_run_nothing_is_proven() {
    let verdict = report([run(System::Vendor, Activity::Quiet, &meter_text(0, 0, 0))]).verdict();
    assert_eq!(verdict.failures, ["no decoupled run was measured"]);
}

#[test]
fn entries_between_steps_are_pointed_out() {
    let verdict = report([run(System::TacetDecoupled, Activity::Quiet, &meter_text(0, 0, 3))]).verdict();
    assert!(verdict.failures.is_empty());
    assert!(verdict.warnings[0].contains("3 entries into kernel mode between"));
}

#[test]
fn counts_that_contradict_the_recording_are_an_error() {
    let merge = |text: &str| {
        let meter = Meter::parse(text, Path::new("m")).unwrap();
        Run::merge(System::Vendor, Activity::Quiet, &recording(Mode::Step, false), Some(&meter), Vec::new())
            .unwrap_err()
            .to_string()
    };
    let text = meter_text(0, 0, 0);
    let missing = text.replacen(&format!("Q,1,1,2,0,{OWN},0,0,0,0,30,0,0,0,0\n"), "", 1).replace("end,8", "end,7");
    assert!(merge(&missing).contains("rank 1: the program measured 4 quanta, the meter saw 3"));
    let short = text.replacen(&format!(",0,{OWN},"), &format!(",0,{},", OWN - 1), 1);
    assert!(merge(&short).contains("its own work alone has"));
}

#[test]
fn migrated_quanta_count_as_hit_and_stay_out_of_ppm() {
    let text = meter_text(0, 0, 0).replacen(&format!("Q,1,0,1,0,{OWN},0,0"), "Q,1,0,2,1,0,0,0", 1);
    let run = run(System::Vendor, Activity::Quiet, &text);
    let rank = &run.ranks[0];
    assert_eq!((rank.migrated, rank.quanta_hit, rank.stolen_ppm), (Some(1), Some(1), Some(0.0)));
    assert_eq!(rank.cores, [1, 2]);
    assert!(report([run]).table().contains("1+2"));
}

#[test]
fn a_guest_with_a_wrong_clock_is_pointed_out() {
    let good = || run(System::TacetDecoupled, Activity::Quiet, &meter_text(0, 0, 0));
    let mut wrong = run(System::Vendor, Activity::Quiet, &meter_text(0, 0, 0));
    wrong.tsc_hz *= 40.0;
    let warnings = report([good(), good(), wrong]).verdict().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("vendor Linux, StepSync, quiet: its clock runs wrongly"));
}
