//! The page: what is shown, in words; the template lays it out.

use std::collections::BTreeSet;

use minijinja::{Environment, value::Serde};
use serde::Serialize;

use super::plot::{Over, Series, colour, distribution, heat_map, time_series};
use super::verdict::table_number;
use super::{Activity, Machine, Report, Run, StormItem, System, table};
use crate::cli::Mode;
use crate::error::{Error, Result};

#[derive(Serialize)]
struct Row {
    cells: Vec<String>,
    colour: String,
    /// First row of a system's block.
    first: bool,
    /// First row of a mode and activity.
    group: Option<String>,
}

#[derive(Serialize)]
struct Panel {
    title: String,
    heat: String,
    stolen: String,
    delay: String,
    stolen_series: String,
    longest_series: String,
}

#[derive(Serialize)]
struct Legend {
    name: &'static str,
    colour: String,
    what: &'static str,
}

#[derive(Serialize)]
struct Guest {
    system: &'static str,
    kernel: String,
    build: String,
    cmdline: String,
    clocksource: String,
    mpi: String,
}

#[derive(Serialize)]
struct StormRow {
    name: String,
    /// One a system of `storm_systems`: text and whether it ran.
    cells: Vec<(String, bool)>,
}

fn hex(system: System) -> String {
    let c = colour(system);
    format!("#{:02x}{:02x}{:02x}", c.0, c.1, c.2)
}

fn explanation(system: System) -> &'static str {
    match system {
        System::Vendor => "Debian's kernel package as shipped",
        System::VendorTuned => {
            "the same kernel, cores isolated by an expert's command line (isolcpus, nohz_full, rcu_nocbs, irqaffinity)"
        }
        System::Tacet => "our Linux on the microkernel, both ranks share its one service core",
        System::TacetDecoupled => "our Linux, each rank's thread alone on a compute core",
        System::Bare => "the same work loop with no operating system: what the emulator alone does to the clock",
    }
}

/// Modes and activities in the order of the report, with their runs.
fn groups(report: &Report) -> Vec<(Mode, Activity, Vec<&Run>)> {
    let keys: BTreeSet<(Mode, Activity)> = report.runs.iter().map(|r| (r.mode, r.activity)).collect();
    keys.into_iter()
        .map(|(mode, activity)| {
            let runs = report.runs.iter().filter(|r| r.mode == mode && r.activity == activity);
            (mode, activity, runs.collect())
        })
        .collect()
}

fn systems(report: &Report) -> BTreeSet<System> {
    report.runs.iter().map(|r| r.system).collect()
}

fn main_rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for (mode, activity, runs) in groups(report) {
        let mut group = Some(format!("{}, {}", mode.title(), activity.title()));
        for run in runs {
            for (i, rank) in run.ranks.iter().enumerate() {
                let mut cells = table::cells(run, rank);
                cells.drain(1..3);
                rows.push(Row { cells, colour: hex(run.system), first: i == 0, group: group.take() });
            }
        }
    }
    rows
}

fn step_rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for (_, activity, runs) in groups(report).into_iter().filter(|g| g.0 == Mode::Step) {
        let mut group = Some(format!("StepSync, {}", activity.title()));
        for run in runs {
            let ms = |ticks: f64| format!("{:.3}", ticks * 1e3 / run.tsc_hz);
            for (i, rank) in run.ranks.iter().enumerate() {
                let none = || "–".to_owned();
                let cells = vec![
                    run.system.title().into(),
                    rank.rank.to_string(),
                    rank.wait.map_or_else(none, |w| ms(w.median as f64)),
                    rank.wait.map_or_else(none, |w| ms(w.mean)),
                    rank.wait.map_or_else(none, |w| ms(w.max as f64)),
                    run.step_cost.map_or_else(none, |c| format!("{:.3}", c.slowdown)),
                    run.step_cost.map_or_else(none, |c| format!("{:.3}", c.slowdown_work)),
                    rank.gaps.map_or_else(none, |g| table_number(g.kernel_entries)),
                    rank.gaps.map_or_else(none, |g| table_number(g.syscalls)),
                    rank.usage.map_or_else(none, |u| (u.minor_faults + u.major_faults).to_string()),
                ];
                rows.push(Row { cells, colour: hex(run.system), first: i == 0, group: group.take() });
            }
        }
    }
    rows
}

fn panels(report: &Report) -> Result<Vec<Panel>> {
    groups(report)
        .into_iter()
        .map(|(mode, activity, runs)| {
            Ok(Panel {
                title: format!("{}, {}", mode.title(), activity.title()),
                heat: heat_map(&runs)?,
                stolen: distribution(&runs, Over::Stolen)?,
                delay: distribution(&runs, Over::Delay)?,
                stolen_series: time_series(&runs, Series::Stolen)?,
                longest_series: time_series(&runs, Series::Longest)?,
            })
        })
        .collect()
}

fn guests(report: &Report) -> Vec<Guest> {
    systems(report)
        .into_iter()
        .filter_map(|system| {
            let run = report.runs.iter().find(|r| r.system == system)?;
            Some(Guest {
                system: system.title(),
                kernel: run.guest.kernel.clone(),
                build: run.guest.kernel_build.clone(),
                cmdline: run.guest.cmdline.clone(),
                clocksource: run.guest.clocksource.clone(),
                mpi: run.mpi.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// Storm systems, and a row for each activity that any of them names. Operations of several runs are added.
fn storm(report: &Report) -> (Vec<&'static str>, Vec<StormRow>) {
    let stormy = |system: System| {
        report.runs.iter().filter(move |r| r.system == system && r.activity == Activity::Storm).flat_map(|r| &r.storm)
    };
    let columns: Vec<System> = systems(report).into_iter().filter(|s| stormy(*s).next().is_some()).collect();
    let mut names: Vec<&str> = Vec::new();
    for item in columns.iter().flat_map(|s| stormy(*s)) {
        if !names.contains(&item.name.as_str()) {
            names.push(&item.name);
        }
    }
    let cell = |system: System, name: &str| {
        let items: Vec<&StormItem> = stormy(system).filter(|i| i.name == name).collect();
        let ran = items.iter().any(|i| i.ran);
        let ops: u64 = items.iter().map(|i| i.ops).sum();
        let note = items.iter().map(|i| i.note.as_str()).find(|n| !n.is_empty()).unwrap_or_default();
        let text = match (ran, note) {
            (true, "") => table_number(ops),
            (true, note) => format!("{} ({note})", table_number(ops)),
            (false, "") => "not run".into(),
            (false, note) => format!("not run: {note}"),
        };
        (text, ran)
    };
    let rows = names
        .iter()
        .map(|name| StormRow { name: (*name).to_owned(), cells: columns.iter().map(|s| cell(*s, name)).collect() })
        .collect();
    (columns.iter().map(|s| s.title()).collect(), rows)
}

/// What must be said beside such figures, as far as it applies to this report.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let tuned = || report.runs.iter().filter(|r| r.system == System::VendorTuned);
    let worst = |activity: Activity| {
        let ranks = tuned().filter(move |r| r.activity == activity).flat_map(|r| &r.ranks);
        ranks.filter_map(|r| r.stolen_ppm).fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))))
    };
    if let Some(quiet) = worst(Activity::Quiet) {
        let storm = match worst(Activity::Storm) {
            Some(storm) if storm > 2.0 * quiet => {
                format!(" Under the storm it loses up to {storm:.1} ppm: there is the difference.")
            }
            Some(storm) => format!(" Under the storm of this report it loses {storm:.1} ppm at most, hardly more."),
            None => String::new(),
        };
        notes.push(format!(
            "Tuned vendor Linux, left alone, steals next to nothing from a pure compute loop: {quiet:.1} ppm at most in \
             this report.{storm} Who only ever computes on a quiet machine gains little from decoupling."
        ));
    }
    if report.machine.accelerator == "tcg" {
        notes.push(
            "The machine is emulated. Instruction counts are exact and do not depend on the host; times do, and under a \
             loaded host strongly: the bare metal floor shows how much. Compare minimum and median only, never maximum \
             or noise %, between systems."
                .into(),
        );
        notes.push(
            "How often a timer interrupts per quantum follows the host's time, so ppm of vendor Linux varies with the \
             host's load from run to run; instructions for one event do not. Each iteration of a REP instruction after \
             the first is not counted, and neither are cache and TLB effects or time in which the core was halted."
                .into(),
        );
    }
    if report.runs.iter().any(|r| r.system == System::Tacet) {
        notes.push(
            "Undecoupled, both ranks take turns on one core. Stolen then counts everything that this core executed \
             during a rank's quantum, most of it the other rank's own work."
                .into(),
        );
    }
    let migrated: usize = report.runs.iter().flat_map(|r| &r.ranks).filter_map(|r| r.migrated).sum();
    if migrated > 0 {
        notes.push(format!(
            "{migrated} quanta began on one core and ended on another. They count as hit; their instructions cannot be \
             told and are left out of ppm."
        ));
    }
    notes.extend(report.machine.notes.iter().cloned());
    notes
}

/// What the template is filled with.
#[derive(Serialize)]
struct Page<'a> {
    silent: bool,
    sentence: String,
    failures: Vec<String>,
    warnings: Vec<String>,
    machine: &'a Machine,
    samples: String,
    own: String,
    legend: Vec<Legend>,
    heads: Vec<&'static str>,
    rows: Vec<Row>,
    step_rows: Vec<Row>,
    panels: Vec<Panel>,
    guests: Vec<Guest>,
    storm_systems: Vec<&'static str>,
    storm_rows: Vec<StormRow>,
    notes: Vec<String>,
}

pub(super) fn render(report: &Report) -> Result<String> {
    let verdict = report.verdict();
    let (storm_systems, storm_rows) = storm(report);
    let counts: BTreeSet<usize> = report.runs.iter().map(|r| r.samples).collect();
    let samples = match (counts.first(), counts.last()) {
        (Some(&few), Some(&many)) if few < many => {
            format!("{} to {}", table_number(few as u64), table_number(many as u64))
        }
        (_, many) => table_number(many.copied().unwrap_or(0) as u64),
    };
    let own = report.runs.iter().map(|r| r.own_insns_per_quantum).max();
    let page = Page {
        silent: verdict.failures.is_empty(),
        sentence: verdict.sentence(report),
        failures: verdict.failures,
        warnings: verdict.warnings,
        machine: &report.machine,
        samples,
        own: table_number(own.unwrap_or(0)),
        legend: systems(report)
            .into_iter()
            .map(|s| Legend { name: s.title(), colour: hex(s), what: explanation(s) })
            .collect(),
        // Mode and activity head the groups of rows.
        heads: [&table::HEADS[..1], &table::HEADS[3..]].concat(),
        rows: main_rows(report),
        step_rows: step_rows(report),
        panels: panels(report)?,
        guests: guests(report),
        storm_systems,
        storm_rows,
        notes: notes(report),
    };
    let mut environment = Environment::new();
    let fail = |e: minijinja::Error| Error::Plot(e.to_string());
    environment.add_template("report.html", include_str!("../../templates/report.html")).map_err(fail)?;
    environment.get_template("report.html").and_then(|t| t.render(Serde(&page))).map_err(fail)
}
