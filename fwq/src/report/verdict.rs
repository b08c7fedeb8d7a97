//! The judgement: decoupled ranks meet nothing, and it was really measured.

use super::{RankResult, Report, Run, System};
use crate::cli::Mode;

/// Failures make `mk run` fail; warnings are for the reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub failures: Vec<String>,
    pub warnings: Vec<String>,
}

impl Verdict {
    /// One sentence for the head of the report.
    pub fn sentence(&self, report: &Report) -> String {
        if !self.failures.is_empty() {
            return format!("Not silent: {} of the conditions on decoupled ranks are not met.", self.failures.len());
        }
        let decoupled = || report.runs.iter().filter(|r| r.system == System::TacetDecoupled);
        let quanta: usize = decoupled().flat_map(|r| &r.ranks).map(|r| r.samples).sum();
        format!(
            "Silent: zero stolen instructions and zero kernel entries in each of {} quanta of the decoupled ranks ({} runs).",
            table_number(quanta as u64),
            decoupled().count()
        )
    }
}

/// With thousands separated.
pub(super) fn table_number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

pub(super) fn judge(report: &Report) -> Verdict {
    let mut verdict = Verdict::default();
    let mut decoupled = 0;
    for run in report.runs.iter().filter(|r| r.system == System::TacetDecoupled) {
        decoupled += 1;
        for rank in &run.ranks {
            judge_rank(run, rank, &mut verdict);
        }
    }
    judge_clocks(report, &mut verdict);
    if decoupled == 0 {
        verdict.failures.push("no decoupled run was measured".into());
    }
    verdict
}

/// All systems see the same time-stamp counter. A guest that found another rate than the others calibrated its clock
/// wrongly, as happens on a loaded host; its ticks stand, its milliseconds do not.
fn judge_clocks(report: &Report, verdict: &mut Verdict) {
    let mut rates: Vec<f64> = report.runs.iter().map(|r| r.tsc_hz).collect();
    rates.sort_by(f64::total_cmp);
    let Some(&usual) = rates.get(rates.len() / 2) else {
        return;
    };
    for run in &report.runs {
        if (run.tsc_hz / usual - 1.0).abs() > 0.02 {
            verdict.warnings.push(format!(
                "{}, {}, {}: its clock runs wrongly (time-stamp counter at {:.0} MHz, the others' at {:.0}); do not use \
                 its milliseconds",
                run.system.title(),
                run.mode.title(),
                run.activity.title(),
                run.tsc_hz / 1e6,
                usual / 1e6
            ));
        }
    }
}

fn judge_rank(run: &Run, rank: &RankResult, verdict: &mut Verdict) {
    let who = format!("rank {} decoupled, {}, {}", rank.rank, run.mode.title(), run.activity.title());
    let mut fail = |text: String| verdict.failures.push(format!("{who}: {text}"));
    let (Some(stolen), Some(entries), Some(hit)) = (rank.stolen_insns, rank.kernel_entries, rank.quanta_hit) else {
        fail("was not metered".into());
        return;
    };
    if stolen > 0 || hit > 0 {
        fail(format!(
            "{} instructions stolen, {} of {} quanta hit, {} instructions in the worst",
            table_number(stolen),
            table_number(hit as u64),
            table_number(rank.samples as u64),
            table_number(rank.stolen_max.unwrap_or(0)),
        ));
    }
    if entries > 0 {
        fail(format!("{} entries into kernel mode", table_number(entries)));
    }
    if rank.cores.len() > 1 {
        fail(format!("ran on the cores {:?}, not on one", rank.cores));
    }
    match rank.decoupled_core {
        None => fail("Linux does not list it as decoupled at the end of the run".into()),
        Some(core) if Some(core) != rank.core => {
            fail(format!("Linux lists it on core {core}, the meter saw it on {:?}", rank.cores))
        }
        Some(_) => {}
    }
    if let (Mode::Step, Some(gaps)) = (run.mode, rank.gaps)
        && gaps.kernel_entries > 0
    {
        verdict.warnings.push(format!(
            "{who}: {} entries into kernel mode between the first and the last step, {} of them system calls",
            table_number(gaps.kernel_entries),
            table_number(gaps.syscalls)
        ));
    }
}
