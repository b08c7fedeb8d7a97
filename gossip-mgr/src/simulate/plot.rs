//! Line plots as SVG.

use std::path::Path;

use plotters::prelude::*;

/// A line with its name.
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// Draws `NAME.svg` into `folder`, if there is one.
///
/// # Errors
/// If the file cannot be written.
pub fn plot(
    folder: Option<&Path>,
    name: &str,
    title: &str,
    (x, y): (&str, &str),
    curves: &[Curve],
) -> anyhow::Result<()> {
    let Some(path) = folder.map(|folder| folder.join(format!("{name}.svg"))) else {
        return Ok(());
    };
    let finite = || curves.iter().flat_map(|(_, c)| c).filter(|(x, y)| (x + y).is_finite());
    let x_most = finite().map(|p| p.0).fold(0.0, f64::max).max(1e-9);
    let y_most = finite().map(|p| p.1).fold(0.0, f64::max).max(1e-9) * 1.1;
    let x_least = finite().map(|p| p.0).fold(x_most, f64::min);
    let x_least = if x_least == x_most { 0.0 } else { x_least };
    // Room for the legend beside the lines.
    let x_end = x_most + 0.45 * (x_most - x_least);
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(&path, (900, 560)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(52)
            .build_cartesian_2d(x_least..x_end, 0.0..y_most)?;
        chart.configure_mesh().x_desc(x).y_desc(y).draw()?;
        for (i, (name, points)) in curves.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
