//! Line plots as SVG.

use std::path::Path;

use plotters::element::DashedPathElement;
use plotters::prelude::*;

pub use super::axis::Axis;
use super::axis::Scale;

/// A line with its name.
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);

const SIZE: (u32, u32) = (960, 560);
/// Room for the legend beside the lines.
const LEGEND: u32 = 240;
const LINE: i32 = 20;
/// Lines of more points are drawn without marks on them.
const MARKED: usize = 40;

/// Colours that are told apart on white, by the colour-blind too.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 90, 170),
    RGBColor(205, 70, 0),
    RGBColor(0, 140, 105),
    RGBColor(190, 95, 160),
    RGBColor(40, 40, 40),
    RGBColor(60, 165, 225),
    RGBColor(215, 145, 0),
];
/// Dashes and the gaps between them, of the kinds of lines; none is a solid line. In this order they are drawn, so that
/// of lines that coincide all kinds are seen.
const DASHES: [Option<(i32, i32)>; 3] = [None, Some((12, 8)), Some((3, 6))];

/// Draws `NAME.svg` into `folder`, if there is one.
///
/// # Errors
/// If the file cannot be written.
pub fn plot(
    folder: Option<&Path>,
    name: &str,
    title: &str,
    (x, y): (Axis, Axis),
    curves: &[Curve],
) -> anyhow::Result<()> {
    let Some(path) = folder.map(|folder| folder.join(format!("{name}.svg"))) else {
        return Ok(());
    };
    draw(&path, title, x, y, curves).map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))?;
    say!("wrote {}", path.display())?;
    Ok(())
}

fn draw(path: &Path, title: &str, x: Axis, y: Axis, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let shown = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().copied().filter(|&(px, py)| x.shows(px) && y.shows(py)).collect()
    };
    let curves: Vec<Curve> = curves.iter().map(|(name, points)| (*name, shown(points))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let across = Scale::over(x, points().map(|p| p.0));
    let upwards = Scale::over(y, points().map(|p| p.1)).upright();

    let whole = SVGBackend::new(path, SIZE).into_drawing_area();
    whole.fill(&WHITE)?;
    let whole = whole.titled(title, ("sans-serif", 22))?;
    let (left, legend) = whole.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(82)
        .build_cartesian_2d(across, upwards)?;
    chart.configure_mesh().max_light_lines(0).bold_line_style(BLACK.mix(0.06)).x_desc(x.name).y_desc(y.name).draw()?;
    for (kind, dashes) in DASHES.into_iter().enumerate() {
        for (i, (name, points)) in curves.iter().enumerate().filter(|(i, _)| i % DASHES.len() == kind) {
            let colour = COLOURS[i % COLOURS.len()];
            let style = colour.stroke_width(2);
            let at = LINE * (i as i32 + 1);
            let sample = [(0, at), (28, at)];
            match dashes {
                None => {
                    chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                    legend.draw(&PathElement::new(sample, style))?;
                }
                Some((dash, gap)) => {
                    chart.draw_series(DashedLineSeries::new(points.iter().copied(), dash, gap, style))?;
                    legend.draw(&DashedPathElement::new(sample, dash, gap, style))?;
                }
            }
            if points.len() <= MARKED {
                chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
            }
            legend.draw(&Text::new(*name, (36, at - 6), ("sans-serif", 12)))?;
        }
    }
    whole.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_title_its_axes_and_all_curves_even_without_a_point() {
        let dir = tempfile::tempdir().unwrap();
        let axes = (Axis::linear("hours"), Axis::logarithmic("steps", 10.0));
        let curves =
            [("one", vec![(0.0, 1.0), (1.0, 100.0)]), ("no point", vec![]), ("never", vec![(1.0, f64::INFINITY)])];
        plot(Some(dir.path()), "test", "A title", axes, &curves).unwrap();
        plot(Some(dir.path()), "empty", "A title", axes, &[]).unwrap();
        let drawn = std::fs::read_to_string(dir.path().join("test.svg")).unwrap();
        for text in ["A title", "hours", "steps", "one", "no point", "never"] {
            assert!(drawn.contains(text), "{text} is not in the plot");
        }
    }
}
