//! The comparison as text.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};

use super::verdict::table_number;
use super::{RankResult, Report, Run};

fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".into(), show)
}

/// The figures of one rank, as they stand in both tables.
pub(super) fn cells(run: &Run, rank: &RankResult) -> Vec<String> {
    vec![
        run.system.title().into(),
        run.mode.title().into(),
        run.activity.title().into(),
        rank.rank.to_string(),
        match &rank.cores[..] {
            [] => optional(rank.core, |c| c.to_string()),
            cores => cores.iter().map(u32::to_string).collect::<Vec<_>>().join("+"),
        },
        table_number(rank.samples as u64),
        optional(rank.stolen_ppm, ppm),
        optional(rank.stolen_max, table_number),
        optional(rank.quanta_hit, |hit| percent(hit, rank.samples)),
        optional(rank.kernel_entries, table_number),
        format!("{:.3}", rank.ms_min),
        format!("{:.3}", rank.ms_median),
        format!("{:.2}", rank.noise),
    ]
}

pub(super) const HEADS: [&str; 13] = [
    "system",
    "mode",
    "activity",
    "rank",
    "core",
    "quanta",
    "stolen ppm",
    "most in one",
    "hit %",
    "entries",
    "min ms",
    "median ms",
    "noise %",
];

/// Zero must be told from little: exactly "0" only for none at all.
fn ppm(ppm: f64) -> String {
    if ppm == 0.0 {
        "0".into()
    } else if ppm < 0.01 {
        "<0.01".into()
    } else if ppm < 10.0 {
        format!("{ppm:.2}")
    } else {
        table_number(ppm.round() as u64)
    }
}

fn percent(part: usize, all: usize) -> String {
    match 100.0 * part as f64 / all as f64 {
        0.0 => "0".into(),
        p if p < 0.01 => "<0.01".into(),
        p => format!("{p:.2}"),
    }
}

pub(super) fn render(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(HEADS);
    let mut last = None;
    for run in &report.runs {
        let group = (run.mode, run.activity);
        if last.replace(group).is_some_and(|last| last != group) {
            table.add_row([""; HEADS.len()]);
        }
        for rank in &run.ranks {
            table.add_row(cells(run, rank));
        }
    }
    for index in 3..HEADS.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let own = report.runs.iter().map(|r| r.own_insns_per_quantum).max();
    format!(
        "{table}\nEach quantum has {} instructions. Stolen: instructions on the rank's core during its quanta that were \
         not its own, per\nmillion; most in one: in the worst quantum; hit: quanta that lost any; entries: into kernel \
         mode, in all quanta.\nCounts are exact; times on an emulator vary with the host's load (compare min and median \
         only).\n",
        table_number(own.unwrap_or(0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nothing_is_printed_as_zero() {
        assert_eq!(ppm(0.0), "0");
        assert_eq!(ppm(0.0001), "<0.01");
        assert_eq!(ppm(5098.4), "5,098");
        assert_eq!(percent(0, 10), "0");
        assert_eq!(percent(1, 1_000_000), "<0.01");
        assert_eq!(percent(1, 8), "12.50");
    }
}
