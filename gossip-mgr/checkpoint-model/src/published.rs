//! Models that others published, to compare with.

use crate::lifetime::{Pattern, Stage};

/// Young 1974: the first-order optimal work between checkpoints of `cost` seconds with a failure each `mtbf` seconds.
pub fn young(cost: f64, mtbf: f64) -> f64 {
    (2.0 * cost * mtbf).sqrt()
}

/// Daly 2006: the same of higher order.
pub fn daly(cost: f64, mtbf: f64) -> f64 {
    if cost >= 2.0 * mtbf {
        return mtbf;
    }
    let x = cost / (2.0 * mtbf);
    young(cost, mtbf) * (1.0 + x.sqrt() / 3.0 + x / 9.0) - cost
}

/// Daly's expected lifetime of `work` with checkpoints each `interval` seconds of it.
pub fn daly_lifetime(work: f64, interval: f64, cost: f64, restart: f64, mtbf: f64) -> f64 {
    mtbf * (restart / mtbf).exp() * ((interval + cost) / mtbf).exp_m1() * work / interval
}

/// Di, Robert, Vivien, Bouguerra, Cappello (SC 2014, and 2016): so many checkpoints of each level over the job, spaced
/// evenly, that costs and expected losses are least to the first order. A failure of level i loses half of the interval
/// of i, and half of the lower levels' checkpoints within. Sets the stages' `every`, rounded to whole blocks, as nested
/// checkpoints need.
pub fn di(pattern: &mut Pattern) {
    let work = pattern.work;
    let mut time = work;
    let mut counts = vec![1.0f64; pattern.stages.len()];
    // The number of failures depends on the time that the job takes with them; this settles at once unless most of it
    // is overhead, where first order means little.
    for _ in 0..20 {
        let (mut lower, mut longer) = (0.0, work);
        for (count, stage) in counts.iter_mut().zip(&pattern.stages) {
            let failures = stage.rate * time;
            *count = (failures * (work + lower) / (2.0 * stage.cost)).sqrt().max(1.0);
            longer += stage.cost * *count + failures * ((work + lower) / (2.0 * *count) + stage.restart);
            lower += stage.cost * *count;
        }
        time = longer.min(100.0 * work);
    }
    nest(pattern, &counts);
}

/// Sets the stages' `every` to about these numbers of checkpoints over the job.
fn nest(pattern: &mut Pattern, counts: &[f64]) {
    let mut all = 1.0;
    for (i, count) in counts.iter().enumerate().rev() {
        let ratio = (count / all).round().max(1.0);
        all *= ratio;
        if let Some(above) = pattern.stages.get_mut(i + 1) {
            above.every = ratio;
        }
    }
    if let Some(lowest) = pattern.stages.first_mut() {
        lowest.every = pattern.work / all;
    }
}

/// The lifetime by recursion on means, as Dauwe et al. (2018) and FFMK's multi-level model have it: the time of a
/// stage's block is Daly's lifetime of the blocks below, as if these always took as long as in the mean.
pub fn recursive(pattern: &Pattern) -> f64 {
    let mut below = 0.0;
    for (k, Stage { rate, cost, restart, every, lag }) in pattern.stages.iter().copied().enumerate() {
        let inner = if k == 0 { every } else { every * below - pattern.stages[k - 1].cost };
        below = through(inner + cost, rate, restart + lag);
    }
    let blocks = match pattern.stages.len() {
        0 => return through(pattern.work, pattern.beyond, pattern.start_over),
        count => (pattern.work / pattern.interval(count - 1)).max(1.0),
    };
    through(blocks * below, pattern.beyond, pattern.start_over)
}

fn through(time: f64, rate: f64, restart: f64) -> f64 {
    if rate > 0.0 { (rate * restart).exp() * (rate * time).exp_m1() / rate } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(rate: f64, cost: f64, restart: f64, every: f64) -> Stage {
        Stage { rate, cost, lag: 0.0, restart, every }
    }

    fn pattern(stages: &[Stage]) -> Pattern {
        Pattern { stages: stages.to_vec(), work: 1e6, beyond: 0.0, start_over: 0.0 }
    }

    #[test]
    fn daly_has_the_reference_vectors() {
        for (mtbf, cost, interval) in [(14_400.0, 30.0, 909.6), (86_400.0, 60.0, 3_180.1), (3_600.0, 120.0, 851.2)] {
            assert!((daly(cost, mtbf) - interval).abs() < 0.05, "{}", daly(cost, mtbf));
            // The true optimum of the lifetime is within 1.5 s of it.
            let lifetime = |interval| daly_lifetime(1e6, interval, cost, 60.0, mtbf);
            let best =
                (0..20_000).map(|i| 100.0 + 0.25 * f64::from(i)).min_by(|a, b| lifetime(*a).total_cmp(&lifetime(*b)));
            assert!((best.unwrap() - interval).abs() < 1.75, "{best:?}");
        }
        assert_eq!(daly(100.0, 50.0), 50.0);
        assert!((young(30.0, 14_400.0) - 929.5).abs() < 0.1);
    }

    #[test]
    fn with_one_level_the_exact_lifetime_is_dalys() {
        let one = Pattern { work: 1e6 - 1e6 % 909.6, ..pattern(&[stage(1.0 / 14_400.0, 30.0, 120.0, 909.6)]) };
        let daly = daly_lifetime(one.work, 909.6, 30.0, 120.0, 14_400.0);
        // But for the last block, which needs no checkpoint.
        let last = (daly / one.work * 909.6) - 14_400.0 * (120.0f64 / 14_400.0).exp() * (909.6f64 / 14_400.0).exp_m1();
        assert!((one.lifetime() / (daly - last) - 1.0).abs() < 1e-9, "{} {}", one.lifetime(), daly - last);
        assert!((recursive(&one) / daly - 1.0).abs() < 1e-9);
    }

    #[test]
    fn failures_that_the_upper_level_restores_cost_what_one_level_would() {
        // The lower level is never needed and costs nothing: all is as with the upper level alone.
        let two = pattern(&[stage(0.0, 0.0, 0.0, 100.0), stage(1e-4, 50.0, 20.0, 10.0)]);
        let one = pattern(&[stage(1e-4, 50.0, 20.0, 1_000.0)]);
        assert!((two.lifetime() / one.lifetime() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn two_levels_of_the_same_reach_are_one() {
        // Class 0 and class 1 with one block each: as one level with both rates.
        let two = pattern(&[stage(1e-4, 50.0, 20.0, 1_000.0), stage(2e-4, 50.0, 20.0, 1.0)]);
        let one = pattern(&[stage(3e-4, 50.0, 20.0, 1_000.0)]);
        assert!((two.lifetime() / one.lifetime() - 1.0).abs() < 1e-9, "{} {}", two.lifetime(), one.lifetime());
    }

    #[test]
    fn first_order_is_near_the_exact_optimum_where_failures_are_rare() {
        let mut p = pattern(&[stage(1e-5, 2.0, 5.0, 1.0), stage(1e-6, 60.0, 90.0, 1.0)]);
        di(&mut p);
        let first = p.lifetime();
        for (i, factor) in [(0, 0.8), (0, 1.25), (1, 0.7), (1, 1.4)] {
            let mut other = p.clone();
            other.stages[i].every *= factor;
            if i == 1 {
                other.stages[1].every = other.stages[1].every.round();
            }
            assert!(other.lifetime() > first, "{i} {factor}: {} {first}", other.lifetime());
        }
        // About √(2δ/λ) each.
        assert!((p.interval(0) / 632.0 - 1.0).abs() < 0.1 && (p.interval(1) / 10_954.0 - 1.0).abs() < 0.1, "{p:?}");
    }
}
