//! The plots, as SVG text for the page.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Curve, RankResult, Run, System};
use crate::error::{Error, Result};

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x3b, 0x45);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
const EMPTY: RGBColor = RGBColor(0xe9, 0xed, 0xf1);

/// Colours that differ for the colour-blind too (Okabe and Ito's palette).
pub(super) fn colour(system: System) -> RGBColor {
    match system {
        System::Vendor => RGBColor(0xd5, 0x5e, 0x00),
        System::VendorTuned => RGBColor(0xe6, 0x9f, 0x00),
        System::Tacet => RGBColor(0x56, 0xb4, 0xe9),
        System::TacetDecoupled => RGBColor(0x00, 0x9e, 0x73),
        System::Bare => RGBColor(0x5c, 0x64, 0x70),
    }
}

fn drawn<E: std::error::Error + Send + Sync>(result: std::result::Result<(), DrawingAreaErrorKind<E>>) -> Result<()> {
    result.map_err(|e| Error::Plot(e.to_string()))
}

/// 1, 10, 100, 1k, 10k … for axes.
fn short(value: f64) -> String {
    let scaled = |v: f64, unit: &str| {
        let text = format!("{v:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        v if v >= 1e6 => scaled(v / 1e6, "M"),
        v if v >= 1e3 => scaled(v / 1e3, "k"),
        v if v >= 1.0 => scaled(v, ""),
        v => format!("{v}"),
    }
}

fn share(value: f64) -> String {
    format!("{} %", short(value * 100.0))
}

fn text(size: f64) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// What a distribution is over.
#[derive(Clone, Copy)]
pub(super) enum Over {
    /// Stolen instructions of a quantum.
    Stolen,
    /// Delay over the rank's fastest quantum, in microseconds.
    Delay,
}

impl Over {
    fn points(self, run: &Run, rank: &RankResult) -> Vec<(f64, f64)> {
        let all = |curve: &Curve, x: &dyn Fn(u64) -> f64| -> Vec<(f64, f64)> {
            curve.iter().map(|&(v, p)| (x(v), p)).filter(|(x, _)| *x > 0.0).collect()
        };
        match self {
            Over::Stolen => all(&rank.stolen_curve, &|v| v as f64),
            Over::Delay => all(&rank.ticks_curve, &|v| (v - rank.cycles.min) as f64 * 1e6 / run.tsc_hz),
        }
    }
}

/// Complementary cumulative distribution, both axes logarithmic: one line a rank, in its system's colour.
pub(super) fn distribution(runs: &[&Run], over: Over) -> Result<String> {
    let lines: Vec<(System, Vec<(f64, f64)>)> = runs
        .iter()
        .flat_map(|run| run.ranks.iter().map(|rank| (run.system, over.points(run, rank))))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let samples = runs.iter().map(|r| r.samples).max().unwrap_or(1);
    let most = lines.iter().flat_map(|(_, l)| l).map(|p| p.0).fold(10.0, f64::max);
    let (from, x_desc) = match over {
        Over::Stolen => (1.0, "stolen instructions in a quantum, x"),
        Over::Delay => (0.1, "delay over the fastest quantum, x µs"),
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (560, 330)).into_drawing_area();
        let lowest = 0.7 / samples as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((from..most * 1.5).log_scale(), (lowest..1.2f64).log_scale())
            .map_err(|e| Error::Plot(e.to_string()))?;
        drawn(
            chart
                .configure_mesh()
                .axis_style(INK.mix(0.6))
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .x_labels(8)
                .y_labels(6)
                .x_label_formatter(&|v| short(*v))
                .y_label_formatter(&|v| share(*v))
                .label_style(text(13.0))
                .axis_desc_style(text(14.0))
                .x_desc(x_desc)
                .y_desc("quanta with at least x")
                .draw(),
        )?;
        // The floor is reference, not rival: thin, and below the others.
        let floor_first = lines.iter().filter(|l| l.0 == System::Bare);
        for (system, points) in floor_first.chain(lines.iter().filter(|l| l.0 != System::Bare)) {
            let width = if *system == System::Bare { 1 } else { 2 };
            let stairs = staircase(points, from);
            drawn(chart.draw_series([PathElement::new(stairs, colour(*system).stroke_width(width))]).map(drop))?;
        }
        if lines.is_empty() {
            let style = text(15.0).pos(Pos::new(HPos::Center, VPos::Center));
            drawn(area.draw_text("no quantum was hit on any system", &style, (300, 150)))?;
        }
        drawn(area.present())?;
    }
    Ok(svg)
}

/// The share falls at each observed value: horizontal up to it, then down.
fn staircase(points: &[(f64, f64)], from: f64) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    let mut last = from;
    for &(x, p) in points {
        out.push((last, p));
        out.push((x.max(from), p));
        last = x.max(from);
    }
    out
}

/// White over yellow to dark red, on a logarithmic scale from 1 to 1,000,000.
fn heat(value: u64) -> RGBColor {
    const STOPS: [(u8, u8, u8); 5] =
        [(0xff, 0xed, 0xa0), (0xfe, 0xb2, 0x4c), (0xf0, 0x3b, 0x20), (0xa5, 0x00, 0x26), (0x3b, 0x00, 0x1f)];
    let position = ((value.max(1) as f64).log10() / 6.0).clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (position as usize).min(STOPS.len() - 2);
    let part = position - low as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))) as u8;
    let (a, b) = (STOPS[low], STOPS[low + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Core × time: one row a rank, one cell a slice of its run, coloured by the most instructions stolen in one quantum.
pub(super) fn heat_map(runs: &[&Run]) -> Result<String> {
    const LEFT: i32 = 250;
    const WIDTH: i32 = 800;
    const ROW: i32 = 22;
    const TOP: i32 = 6;
    let rows: Vec<(&Run, &RankResult)> =
        runs.iter().flat_map(|run| run.ranks.iter().map(move |rank| (*run, rank))).collect();
    let bottom = TOP + rows.len() as i32 * ROW;
    let mut svg = String::new();
    {
        let size = ((LEFT + WIDTH + 20) as u32, (bottom + 74) as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let label = text(13.0).pos(Pos::new(HPos::Right, VPos::Center));
        for (i, (run, rank)) in rows.iter().enumerate() {
            let y = TOP + i as i32 * ROW;
            let core = rank.core.map_or_else(|| "?".into(), |c| c.to_string());
            let name = format!("{}, rank {} (core {core})", run.system.title(), rank.rank);
            drawn(area.draw_text(&name, &label, (LEFT - 26, y + ROW / 2)))?;
            let chip = [(LEFT - 18, y + 3), (LEFT - 8, y + ROW - 4)];
            drawn(area.draw(&Rectangle::new(chip, colour(run.system).filled())))?;
            let n = rank.bins.len() as i32;
            let x = |k: i32| LEFT + k * WIDTH / n.max(1);
            // A rank that ends before the others leaves the rest of its row white.
            let used = rank.bins.iter().rposition(|b| b.quanta > 0).map_or(0, |last| last + 1);
            let row = [(LEFT, y + 1), (x(used as i32), y + ROW - 2)];
            drawn(area.draw(&Rectangle::new(row, EMPTY.filled())))?;
            for (k, bin) in rank.bins.iter().enumerate().filter(|(_, b)| b.stolen_max > 0) {
                let cell = [(x(k as i32), y + 1), (x(k as i32 + 1), y + ROW - 2)];
                drawn(area.draw(&Rectangle::new(cell, heat(bin.stolen_max).filled())))?;
            }
            if rank.stolen_insns.is_none() {
                drawn(area.draw_text("not metered", &text(12.0), (LEFT + 8, y + 4)))?;
            }
        }
        let below = text(12.0).pos(Pos::new(HPos::Center, VPos::Top));
        for percent in [0, 25, 50, 75, 100] {
            let x = LEFT + WIDTH * percent / 100;
            drawn(area.draw(&PathElement::new([(x, bottom), (x, bottom + 4)], INK.mix(0.6))))?;
            drawn(area.draw_text(&format!("{percent} %"), &below, (x, bottom + 7)))?;
        }
        drawn(area.draw_text("of the run's time", &below, (LEFT + WIDTH * 5 / 8, bottom + 7)))?;
        // The scale: six decades.
        let (x0, y0, step) = (LEFT, bottom + 40, 4);
        for k in 0..60 {
            let value = 10f64.powf(f64::from(k) / 10.0) as u64;
            let cell = [(x0 + k * step, y0), (x0 + (k + 1) * step, y0 + 12)];
            drawn(area.draw(&Rectangle::new(cell, heat(value).filled())))?;
        }
        for (decade, name) in ["1", "10", "100", "1k", "10k", "100k", "1M+"].iter().enumerate() {
            drawn(area.draw_text(name, &below, (x0 + decade as i32 * 10 * step, y0 + 15)))?;
        }
        let beside = text(12.0).pos(Pos::new(HPos::Left, VPos::Center));
        let meaning = "most instructions stolen in one quantum; grey: none at all";
        drawn(area.draw_text(meaning, &beside, (x0 + 60 * step + 16, y0 + 6)))?;
        drawn(area.present())?;
    }
    Ok(svg)
}

/// What a time series shows for each slice of the run.
#[derive(Clone, Copy)]
pub(super) enum Series {
    /// The most instructions stolen in one quantum.
    Stolen,
    /// The longest quantum, in milliseconds.
    Longest,
}

/// One strip a system over the seconds of its run; ranks in two shades; the strips share the scale.
pub(super) fn time_series(runs: &[&Run], series: Series) -> Result<String> {
    let value = |run: &Run, bin: &super::Bin| match series {
        Series::Stolen => bin.stolen_max as f64,
        Series::Longest => bin.ticks_max as f64 * 1e3 / run.tsc_hz,
    };
    let all = || runs.iter().flat_map(|r| r.ranks.iter().flat_map(|k| k.bins.iter().map(|b| value(r, b))));
    let most = all().fold(0.0, f64::max);
    let least = runs.iter().flat_map(|r| r.ranks.iter().map(|k| k.ms_min)).fold(f64::INFINITY, f64::min);
    let range = match series {
        Series::Stolen => 1.0..most.max(10.0) * 1.6,
        Series::Longest => least * 0.8..most.max(least) * 1.6,
    };
    const STRIP: u32 = 118;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (560, STRIP * runs.len() as u32 + 4)).into_drawing_area();
        for (strip, run) in area.split_evenly((runs.len(), 1)).iter().zip(runs) {
            let span = run.ranks.first().map_or(1.0, |r| r.bin_s * r.bins.len() as f64);
            let mut chart = ChartBuilder::on(strip)
                .margin_right(12)
                .margin_top(22)
                .x_label_area_size(22)
                .y_label_area_size(52)
                .build_cartesian_2d(0.0..span.max(1e-9), range.clone().log_scale())
                .map_err(|e| Error::Plot(e.to_string()))?;
            drawn(
                chart
                    .configure_mesh()
                    .axis_style(INK.mix(0.6))
                    .bold_line_style(GRID)
                    .light_line_style(TRANSPARENT)
                    .x_labels(6)
                    .y_labels(4)
                    .x_label_formatter(&|v| format!("{} s", short(*v)))
                    .y_label_formatter(&|v| short(*v))
                    .label_style(text(12.0))
                    .draw(),
            )?;
            let base = range.start;
            for (rank, opacity) in run.ranks.iter().zip([0.95, 0.55].into_iter().cycle()) {
                let style = colour(run.system).mix(opacity).stroke_width(2);
                let bars = rank
                    .bins
                    .iter()
                    .enumerate()
                    .map(|(i, bin)| ((i as f64 + 0.5) * rank.bin_s, value(run, bin)))
                    .filter(|(_, v)| *v > base)
                    .map(|(x, v)| PathElement::new([(x, base), (x, v)], style));
                drawn(chart.draw_series(bars).map(drop))?;
            }
            let nothing = matches!(series, Series::Stolen) && run.ranks.iter().all(|r| r.stolen_insns == Some(0));
            let title = format!("{}{}", run.system.title(), if nothing { ": nothing stolen" } else { "" });
            drawn(strip.draw_text(&title, &text(13.0), (52, 4)))?;
        }
        drawn(area.present())?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_numbers_are_short() {
        assert_eq!(short(1.0), "1");
        assert_eq!(short(1500.0), "1.5k");
        assert_eq!(short(2e6), "2M");
        assert_eq!(share(0.001), "0.1 %");
    }

    #[test]
    fn heat_darkens_from_one_to_a_million() {
        let light = |c: RGBColor| u32::from(c.0) + u32::from(c.1) + u32::from(c.2);
        assert!(light(heat(1)) > light(heat(1000)));
        assert!(light(heat(1000)) > light(heat(1_000_000)));
        assert_eq!(heat(1_000_000), heat(u64::MAX));
    }
}
