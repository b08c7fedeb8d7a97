//! The table of a run, and its verdict.

use gossip_balance::metrics::Quality;

use super::Shock;
use crate::output::OutputError;

/// Most of another method's migration that diffusion may have.
const MIGRATION: f64 = 1.0 / 3.0;

/// Most of another method's edge-cut that diffusion may have.
const EDGE_CUT: f64 = 1.1;

type Figure = fn(&Quality) -> f64;

/// A row of the table: a method and what it did in each step in which it was measured.
pub struct Row {
    name: &'static str,
    results: Vec<Measured>,
}

struct Measured {
    step: u32,
    quality: Quality,
    allowed_imbalance: f64,
    seconds: f64,
}

impl Row {
    /// Nothing measured yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, results: Vec::new() }
    }

    /// Adds a step.
    pub fn push(&mut self, step: u32, quality: Quality, allowed_imbalance: f64, seconds: f64) {
        self.results.push(Measured { step, quality, allowed_imbalance, seconds });
    }

    /// What was measured in the steps in which `other` was, too: steps differ, and so do their figures.
    fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Measured> {
        self.results.iter().filter(|own| other.results.iter().any(|result| result.step == own.step))
    }

    fn mean_beside(&self, other: &Self, figure: Figure) -> f64 {
        let values: Vec<f64> = self.beside(other).map(|result| figure(&result.quality)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn median_seconds_beside(&self, other: &Self) -> f64 {
        let mut seconds: Vec<f64> = self.beside(other).map(|result| result.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The farthest above what is allowed, or the least below, in any step: the step, the imbalance, what is allowed.
    fn worst_imbalance(&self) -> Option<(u32, f64, f64)> {
        let steps = self.results.iter().map(|r| (r.step, r.quality.imbalance, r.allowed_imbalance));
        steps.max_by(|a, b| (a.1 - a.2).total_cmp(&(b.1 - b.2)))
    }

    /// Whether the mean imbalance is allowed.
    fn balances(&self) -> bool {
        let above = |result: &Measured| result.quality.imbalance - result.allowed_imbalance;
        self.results.iter().map(above).sum::<f64>() <= 0.0
    }
}

/// Prints a line for each method. Diffusion has one over all its steps, and one over those of the rows after it
/// wherever they are others.
///
/// # Errors
/// If that cannot be written.
pub fn print_table(shock: &Shock, ours: &Row, others: &[Row]) -> Result<(), OutputError> {
    let [x, y, z] = shock.mesh.size;
    say!(
        "Shock {x}x{y}x{z} tasks, {} steps, shell {} tasks wide with load 4, front moves {:.3} tasks \
         a step, {} parts, tolerance {}",
        shock.steps,
        shock.width,
        shock.mesh.front_speed(shock.steps),
        shock.parts,
        shock.tolerance
    )?;
    say!(
        "{:24}{:>6}{:>11}{:>11}{:>10}{:>10}{:>9}{:>8}",
        "means over steps",
        "steps",
        "imbalance",
        "migration",
        "edge-cut",
        "mean cut",
        "CPU s",
        "ratio"
    )?;
    let mut steps = 0;
    for row in others {
        if row.results.len() != steps {
            steps = row.results.len();
            print_row(ours, row, ours)?;
        }
        print_row(row, row, ours)?;
    }
    say!(
        "edge-cut: of the part with the most, mean cut: of the mean part; CPU s: median, all parts together; \
         ratio: to that of diffusion in the same steps"
    )
}

/// `row` in the steps of `steps`.
fn print_row(row: &Row, steps: &Row, ours: &Row) -> Result<(), OutputError> {
    say!(
        "{:24}{:>6}{:>11.4}{:>11.4}{:>10.4}{:>10.4}{:>9.3}{:>8.2}{}",
        row.name,
        row.beside(steps).count(),
        row.mean_beside(steps, |q| q.imbalance),
        row.mean_beside(steps, |q| q.migration),
        row.mean_beside(steps, |q| q.edge_cut),
        row.mean_beside(steps, |q| q.mean_edge_cut),
        row.median_seconds_beside(steps),
        row.median_seconds_beside(steps) / ours.median_seconds_beside(steps),
        if row.balances() { "" } else { "  does not balance" }
    )
}

/// Prints what diffusion is held to, and whether it met all of it.
///
/// # Errors
/// If that cannot be written.
pub fn verdict(ours: &Row, others: &[Row]) -> Result<bool, OutputError> {
    let mut good = true;
    let mut judge = |name: &str, value: f64, bound: f64, against: &str| {
        let met = value <= bound;
        good &= met;
        let word = if met { "met" } else { "MISSED" };
        say!("{name}: {value:.3} {against}, bound {bound:.3}: {word}")
    };
    match ours.worst_imbalance() {
        Some((step, value, bound)) => judge("imbalance", value, bound, &format!("in the worst step, {step}"))?,
        None => judge("imbalance", f64::NAN, 0.0, "as there was no step")?,
    }
    let figures: [(&str, Figure, f64); 3] = [
        ("migration", |q| q.migration, MIGRATION),
        ("edge-cut", |q| q.edge_cut, EDGE_CUT),
        ("mean edge-cut", |q| q.mean_edge_cut, EDGE_CUT),
    ];
    for (name, figure, bound) in figures {
        // Who does not balance may well move little.
        let ratio = |other: &Row| ours.mean_beside(other, figure) / other.mean_beside(other, figure);
        let rivals = others.iter().filter(|row| !row.results.is_empty() && row.balances());
        match rivals.map(|row| (row, ratio(row))).max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((best, ratio)) => {
                judge(name, ratio, bound, &format!("of that of {}, the best that balances", best.name))?
            }
            None => judge(name, f64::NAN, bound, "of nobody: not compared, as no other method balances")?,
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, steps: &[(u32, f64, f64, f64)]) -> Row {
        let mut row = Row::new(name);
        for &(step, imbalance, migration, edge_cut) in steps {
            row.push(step, Quality { imbalance, migration, edge_cut, mean_edge_cut: edge_cut / 2.0 }, 0.06, 1.0);
        }
        row
    }

    #[test]
    fn one_figure_beyond_its_bound_fails_the_verdict() {
        let others = [row("good", &[(1, 0.05, 3.0, 0.1)]), row("unbalanced", &[(1, 0.5, 0.0, 0.01)])];
        assert!(verdict(&row("ours", &[(1, 0.06, 1.0, 0.11)]), &others).unwrap());
        assert!(!verdict(&row("ours", &[(1, 0.07, 1.0, 0.11)]), &others).unwrap());
        assert!(!verdict(&row("ours", &[(1, 0.06, 1.1, 0.11)]), &others).unwrap());
        assert!(!verdict(&row("ours", &[(1, 0.06, 1.0, 0.12)]), &others).unwrap());
    }

    #[test]
    fn one_step_without_balance_fails_the_verdict() {
        let others = [row("good", &[(1, 0.05, 3.0, 0.1)])];
        assert!(verdict(&row("ours", &[(1, 0.0, 1.0, 0.1), (2, 0.06, 1.0, 0.1)]), &others).unwrap());
        assert!(!verdict(&row("ours", &[(1, 0.0, 1.0, 0.1), (2, 0.07, 1.0, 0.1)]), &others).unwrap());
    }

    #[test]
    fn only_the_steps_of_both_are_compared() {
        let others = [row("good", &[(2, 0.05, 3.0, 0.1)])];
        assert!(verdict(&row("ours", &[(1, 0.05, 9.0, 0.9), (2, 0.05, 1.0, 0.1)]), &others).unwrap());
        assert!(!verdict(&row("ours", &[(1, 0.05, 0.1, 0.01), (2, 0.05, 2.0, 0.1)]), &others).unwrap());
    }

    #[test]
    fn who_is_compared_with_nobody_that_balances_has_met_nothing() {
        let ours = row("ours", &[(1, 0.05, 1.0, 0.1)]);
        assert!(!verdict(&ours, &[]).unwrap());
        assert!(!verdict(&ours, &[row("unbalanced", &[(1, 0.5, 9.0, 0.9)])]).unwrap());
        assert!(!verdict(&ours, &[row("not measured", &[])]).unwrap());
    }
}
