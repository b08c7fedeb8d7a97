//! Line plots as SVG.

use std::path::Path;

use plotters::prelude::*;

/// A line with its name.
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// An axis: what it shows, and whether equal steps along it add or multiply.
#[derive(Clone, Copy)]
pub struct Axis {
    name: &'static str,
    /// The factor of one step.
    base: Option<f64>,
}

impl Axis {
    /// From 0 or the least value on.
    pub fn linear(name: &'static str) -> Self {
        Self { name, base: None }
    }

    /// Logarithmic, of positive values; one step is a factor of `base`.
    pub fn logarithmic(name: &'static str, base: f64) -> Self {
        Self { name, base: Some(base) }
    }

    fn place(self, value: f64) -> f64 {
        self.base.map_or(value, |base| value.log(base))
    }

    fn label(self, place: f64) -> String {
        let value = self.base.map_or(place, |base| base.powf(place));
        match value.abs() {
            0.0 => "0".into(),
            size if size >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
            size if size >= 1.0 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        }
    }
}

const SIZE: (u32, u32) = (960, 560);
/// Room for the legend beside the lines.
const LEGEND: u32 = 230;
const LINE: i32 = 20;
/// Lines of more points are drawn without marks on them.
const MARKED: usize = 40;

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
    println!("wrote {}", path.display());
    Ok(())
}

fn draw(path: &Path, title: &str, x: Axis, y: Axis, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let placed: Vec<(&str, Vec<(f64, f64)>)> = curves
        .iter()
        .map(|(name, points)| {
            let points = points.iter().map(|&(px, py)| (x.place(px), y.place(py)));
            (*name, points.filter(|(px, py)| (px + py).is_finite()).collect())
        })
        .collect();
    let points = || placed.iter().flat_map(|(_, points)| points);
    let (x_least, x_most) = range(points().map(|p| p.0));
    let (y_least, y_most) = range(points().map(|p| p.1));
    let y_least = if y.base.is_some() { y_least } else { y_least.min(0.0) };
    let margin = 0.05 * (y_most - y_least);

    let whole = SVGBackend::new(path, SIZE).into_drawing_area();
    whole.fill(&WHITE)?;
    let whole = whole.titled(title, ("sans-serif", 22))?;
    let (left, legend) = whole.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(x_least..x_most, y_least..y_most + margin)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(x.name)
        .y_desc(y.name)
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|place| y.label(*place))
        .draw()?;
    for (i, (name, points)) in placed.into_iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let mark = if points.len() > MARKED { 0 } else { 3 };
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(mark))?;
        let at = LINE * (i as i32 + 1);
        legend.draw(&PathElement::new([(0, at), (20, at)], colour.stroke_width(3)))?;
        legend.draw(&Text::new(name, (28, at - 6), ("sans-serif", 12)))?;
    }
    whole.present()?;
    Ok(())
}

/// The least and the greatest, which differ.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(v), most.max(v)));
    if least < most {
        (least, most)
    } else if least.is_finite() {
        (least - 1.0, least + 1.0)
    } else {
        (0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_tell_values_whatever_their_steps() {
        let log = Axis::logarithmic("nodes", 2.0);
        assert_eq!((log.place(1024.0), log.label(10.0).as_str()), (10.0, "1024"));
        let linear = Axis::linear("share");
        let labels = [0.0, 0.25, 1.5, 3.0, 12.5, 7_000.0].map(|place| linear.label(place));
        assert_eq!(labels, ["0", "0.25", "1.5", "3", "12", "7000"]);
    }

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
