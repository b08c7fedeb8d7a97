//! The partitions over time, drawn.

use std::path::Path;

use gossip_balance::mesh::Mesh;
use plotters::prelude::*;

/// Pixels a task.
const SCALE: usize = 4;
/// Pixels above and beside each panel.
const MARGIN: usize = 26;

/// The middle layer of the mesh at one step.
pub struct Picture {
    step: u32,
    loaded: Vec<bool>,
    /// What diffusion and bisection chose.
    partitions: [Partition; 2],
}

struct Partition {
    owner: Vec<u32>,
    moved: Vec<bool>,
    /// Share of all tasks, those of the other layers too, that moved in this step.
    share: f64,
}

impl Picture {
    /// Takes it, from the owners before and after the step.
    pub fn new(step: u32, mesh: Mesh, weights: &[f32], before: &[Vec<u32>; 2], after: [&[u32]; 2]) -> Self {
        let [width, height, depth] = mesh.size;
        let layer = width * height * (depth / 2)..width * height * (depth / 2 + 1);
        let partition = |n: usize| {
            let moved: Vec<bool> = before[n].iter().zip(after[n]).map(|(a, b)| a != b).collect();
            Partition {
                owner: after[n][layer.clone()].to_vec(),
                share: moved.iter().filter(|&&moved| moved).count() as f64 / moved.len() as f64,
                moved: moved[layer.clone()].to_vec(),
            }
        };
        Self {
            step,
            loaded: weights[layer.clone()].iter().map(|&w| w > 1.0).collect(),
            partitions: [partition(0), partition(1)],
        }
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws a row for each step: the load, and what diffusion and bisection make of it. Parts are
/// colours with black borders; what has just changed owner is dark red.
pub fn draw(path: &Path, mesh: Mesh, pictures: &[Picture]) -> Drawn {
    let [width, height, _] = mesh.size;
    let panel = (width * SCALE + MARGIN, height * SCALE + MARGIN);
    let size = ((3 * panel.0 + MARGIN) as u32, (pictures.len() * panel.1 + MARGIN) as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (row, picture) in pictures.iter().enumerate() {
        let names = ["diffusion", "RCB"].iter().zip(&picture.partitions);
        let mut titles = vec![format!("step {}: load 4 where red, else 1", picture.step)];
        titles.extend(names.map(|(name, partition)| {
            let share = 100.0 * partition.share;
            format!("{name}: {share:.1} % of all tasks moved (dark red)")
        }));
        for (column, title) in titles.iter().enumerate() {
            let origin = (column * panel.0 + MARGIN, row * panel.1 + MARGIN);
            let at = (origin.0 as i32, origin.1 as i32 - 20);
            area.draw(&Text::new(title.as_str(), at, ("sans-serif", 17)))?;
            let partition = column.checked_sub(1).map(|n| &picture.partitions[n]);
            let colour = |task: usize| match partition {
                None if picture.loaded[task] => RGBColor(214, 39, 40),
                None => RGBColor(235, 235, 235),
                Some(partition) if partition.moved[task] => RGBColor(140, 0, 20),
                Some(partition) => part_colour(partition.owner[task]),
            };
            paint(&area, mesh, origin, colour)?;
            if let Some(partition) = partition {
                outline(&area, mesh, origin, &partition.owner)?;
            }
        }
    }
    area.present()?;
    Ok(())
}

/// Light colours, so that borders and what moved stand out.
fn part_colour(part: u32) -> RGBColor {
    let hash = part.wrapping_mul(2_654_435_761);
    let hue = f64::from(hash >> 16) / 65_536.0;
    let lightness = 0.72 + 0.16 * f64::from(hash & 0xff) / 255.0;
    let (r, g, b) = HSLColor(hue, 0.55, lightness).rgb();
    RGBColor(r, g, b)
}

/// One rectangle for each run of tasks of a colour.
fn paint(area: &Area, mesh: Mesh, origin: (usize, usize), colour: impl Fn(usize) -> RGBColor) -> Drawn {
    let [width, height, _] = mesh.size;
    for y in 0..height {
        let mut x = 0;
        while x < width {
            let begin = x;
            let fill = colour(begin + width * y);
            while x < width && colour(x + width * y) == fill {
                x += 1;
            }
            let corners = [corner(origin, begin, y), corner(origin, x, y + 1)];
            area.draw(&Rectangle::new(corners, fill.filled()))?;
        }
    }
    Ok(())
}

/// A line wherever two neighbours have different owners.
fn outline(area: &Area, mesh: Mesh, origin: (usize, usize), owner: &[u32]) -> Drawn {
    let [width, height, _] = mesh.size;
    let part = |x: usize, y: usize| owner[x + width * y];
    for y in 0..height {
        for x in 0..width {
            let mut lines = Vec::new();
            if x + 1 < width && part(x, y) != part(x + 1, y) {
                lines.push([(x + 1, y), (x + 1, y + 1)]);
            }
            if y + 1 < height && part(x, y) != part(x, y + 1) {
                lines.push([(x, y + 1), (x + 1, y + 1)]);
            }
            for line in lines {
                let ends = line.map(|(x, y)| corner(origin, x, y));
                area.draw(&PathElement::new(ends.to_vec(), BLACK))?;
            }
        }
    }
    Ok(())
}

fn corner(origin: (usize, usize), x: usize, y: usize) -> (i32, i32) {
    ((origin.0 + x * SCALE) as i32, (origin.1 + y * SCALE) as i32)
}
