//! The levels and intervals with which a job is expected to end soonest.

use serde::Serialize;

use crate::lifetime::{Pattern, Stage, mean_restart};
use crate::{Cost, Failures, Job, LevelKind, ModelError, published};

/// A level that may be used, with its cost.
pub type Offer = (LevelKind, Cost);

/// A level in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlannedLevel {
    /// Which.
    pub kind: LevelKind,
    /// Seconds of work between two checkpoints of this level or a higher one: a multiple of the interval below.
    pub interval_s: f64,
}

/// What a job should do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The levels in use, from the cheapest on.
    pub levels: Vec<PlannedLevel>,
    /// Expected seconds from start to end.
    pub lifetime_s: f64,
    /// What of that is beyond the work, as a share of it.
    pub overhead: f64,
}

/// A job, what fails, and a set of levels: all that a lifetime depends on but the intervals.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    job: &'a Job,
    failures: &'a Failures,
    levels: Vec<Offer>,
    /// Failures a second of which each level is the lowest that helps, and of which none does.
    rates: Vec<f64>,
}

impl<'a> Setting<'a> {
    /// With these levels, each once, in any order.
    ///
    /// # Errors
    /// [`ModelError`] if a number is out of its range or a level does not fit the job.
    pub fn new(job: &'a Job, failures: &'a Failures, levels: &[Offer]) -> Result<Self, ModelError> {
        job.check()?;
        failures.check()?;
        let mut levels = levels.to_vec();
        levels.sort_by_key(|&(kind, _)| kind);
        for (i, (kind, cost)) in levels.iter().enumerate() {
            cost.check()?;
            let needed = kind.members().max(if kind.redundancy().is_some_and(|(_, spare)| spare > 0) { 2 } else { 1 });
            if needed > job.nodes {
                return Err(ModelError::TooFewNodes { level: *kind, needed, nodes: job.nodes });
            }
            if i > 0 && levels[i - 1].0 == *kind {
                return Err(ModelError::Twice(*kind));
            }
        }
        // A checkpoint serves as one of all lower levels in use, so it is written for these, too.
        for i in 1..levels.len() {
            levels[i].1.blocking_s = levels[i].1.blocking_s.max(levels[i - 1].1.blocking_s);
        }
        let mut rates = Vec::new();
        let mut left = failures.interruptions(job);
        for &(kind, cost) in &levels {
            let beyond = failures.beyond(kind, job, restart_time(job, failures, cost.restart_s)).min(left);
            rates.push(left - beyond);
            left = beyond;
        }
        rates.push(left);
        Ok(Self { job, failures, levels, rates })
    }

    /// The levels, from the cheapest on.
    pub fn levels(&self) -> &[Offer] {
        &self.levels
    }

    /// The pattern with these blocks: seconds of work for the lowest level, then how many blocks of the level below.
    pub fn pattern(&self, every: &[f64]) -> Pattern {
        let mut stages: Vec<Stage> = Vec::with_capacity(every.len());
        let (mut interval, mut carried) = (1.0, 0.0);
        for ((&(kind, cost), &rate), &every) in self.levels.iter().zip(&self.rates).zip(every) {
            interval *= every;
            // What a level has lost meanwhile, the next one must restore.
            let restart = restart_time(self.job, self.failures, cost.restart_s);
            let gone = gone(self.failures.hidden(kind), interval, cost.background_s + restart);
            let rate = rate + carried;
            carried = rate * gone;
            stages.push(Stage {
                rate: rate - carried,
                cost: cost.blocking_s,
                lag: cost.background_s,
                restart: cost.restart_s,
                every,
            });
        }
        let beyond = self.rates.last().copied().unwrap_or(0.0) + carried;
        Pattern { stages, work: self.job.work_s, beyond, start_over: self.failures.replace_s }
    }

    /// The best intervals by the exact lifetime.
    pub fn optimise(&self) -> Pattern {
        let start = self.first_guess();
        let mut every = descend(&start, |every| self.judge(every));
        // Whole blocks, from the lowest level on; the lowest interval gives way.
        for i in 1..every.len() {
            let wanted = every[i];
            let rounded = [wanted.floor().max(1.0), wanted.ceil()].map(|whole| {
                let mut candidate = every.clone();
                candidate[i] = whole;
                candidate[0] = golden(candidate[0], |tau| {
                    let mut tried = candidate.clone();
                    tried[0] = tau;
                    self.judge(&tried)
                });
                candidate
            });
            every = rounded.into_iter().min_by(|a, b| self.judge(a).total_cmp(&self.judge(b))).unwrap_or(every);
        }
        self.pattern(&every)
    }

    /// Intervals of Di's model.
    pub fn first_order(&self) -> Pattern {
        let mut pattern = self.pattern(&vec![1.0; self.levels.len()]);
        published::di(&mut pattern);
        let every: Vec<f64> = pattern.stages.iter().map(|stage| stage.every).collect();
        self.pattern(&every)
    }

    /// The intervals that the recursion on means holds to be best.
    pub fn recursive(&self) -> Pattern {
        let every = descend(&self.first_guess(), |every| {
            if self.possible(every) { published::recursive(&self.pattern(every)) } else { f64::INFINITY }
        });
        let whole = every.iter().enumerate().map(|(i, &n)| if i == 0 { n } else { n.round().max(1.0) });
        self.pattern(&whole.collect::<Vec<f64>>())
    }

    fn first_guess(&self) -> Vec<f64> {
        self.first_order().stages.iter().map(|stage| stage.every).collect()
    }

    /// The lifetime, or infinity for what cannot be done.
    fn judge(&self, every: &[f64]) -> f64 {
        if !self.possible(every) {
            return f64::INFINITY;
        }
        let lifetime = self.pattern(every).lifetime();
        if lifetime.is_nan() { f64::INFINITY } else { lifetime }
    }

    /// A checkpoint must be complete before the next of its level, and the job is at least one block.
    fn possible(&self, every: &[f64]) -> bool {
        let mut interval = 1.0;
        for (&n, (i, (_, cost))) in every.iter().zip(self.levels.iter().enumerate()) {
            interval *= n;
            if (i > 0 && n < 1.0) || interval < cost.background_s || interval <= 0.0 {
                return false;
            }
        }
        interval <= self.job.work_s * (1.0 + 1e-9)
    }

    fn plan(&self, pattern: &Pattern) -> Plan {
        let level = |(i, &(kind, _)): (usize, &Offer)| PlannedLevel { kind, interval_s: pattern.interval(i) };
        let lifetime_s = pattern.lifetime();
        Plan {
            levels: self.levels.iter().enumerate().map(level).collect(),
            lifetime_s,
            overhead: lifetime_s / self.job.work_s - 1.0,
        }
    }
}

/// How long a restart takes with those that fail while it goes on.
fn restart_time(job: &Job, failures: &Failures, seconds: f64) -> f64 {
    mean_restart(seconds, failures.interruptions(job))
}

/// The chance that a store that loses its content at rate `hidden` lacks the newest checkpoint at a random moment.
fn gone(hidden: f64, interval: f64, lag: f64) -> f64 {
    let x = hidden * interval;
    if x <= 0.0 { 0.0 } else { 1.0 - (-hidden * lag).exp() * -(-x).exp_m1() / x }
}

/// Chooses the levels and intervals among those offered.
///
/// # Errors
/// [`ModelError`] if nothing is offered, or a number or a level makes no sense.
pub fn choose(job: &Job, failures: &Failures, offers: &[Offer]) -> Result<Plan, ModelError> {
    if offers.is_empty() {
        return Err(ModelError::NoLevel);
    }
    // Refuses what does not fit even if it would not be chosen.
    Setting::new(job, failures, offers)?;
    let mut best: Option<Plan> = None;
    for subset in 1u32..1 << offers.len() {
        let levels: Vec<Offer> =
            offers.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1).map(|(_, &offer)| offer).collect();
        let setting = Setting::new(job, failures, &levels)?;
        let plan = setting.plan(&setting.optimise());
        // Of equals, fewer levels.
        let better = best.as_ref().is_none_or(|best| plan.lifetime_s < best.lifetime_s * (1.0 - 1e-6));
        if better {
            best = Some(plan);
        }
    }
    best.ok_or(ModelError::NoLevel)
}

/// The lowest point near `start`, one coordinate after the other, each over its logarithm.
fn descend(start: &[f64], judge: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut at = start.to_vec();
    let mut value = judge(&at);
    for _ in 0..30 {
        for i in 0..at.len() {
            let found = golden(at[i], |x| {
                let mut tried = at.clone();
                tried[i] = x;
                judge(&tried)
            });
            let kept = std::mem::replace(&mut at[i], found);
            if judge(&at) > value {
                at[i] = kept;
            }
            // The interval above stays as it is while this one is tried: else the valley is crossed at an angle.
            if i + 1 < at.len() {
                let pair = golden(at[i], |x| {
                    let mut tried = at.clone();
                    tried[i + 1] *= tried[i] / x;
                    tried[i] = x;
                    judge(&tried)
                });
                let mut tried = at.clone();
                tried[i + 1] *= tried[i] / pair;
                tried[i] = pair;
                if judge(&tried) < judge(&at) {
                    at = tried;
                }
            }
        }
        let now = judge(&at);
        if now.is_nan() || now >= value * (1.0 - 1e-9) {
            break;
        }
        value = now;
    }
    at
}

/// Golden section between a tenth and ten times `around`.
fn golden(around: f64, judge: impl Fn(f64) -> f64) -> f64 {
    const SHARE: f64 = 0.618_033_988_749_895;
    let middle = around.ln();
    let (mut low, mut high) = (middle - 2.3, middle + 2.3);
    let (mut a, mut b) = (high - SHARE * (high - low), low + SHARE * (high - low));
    let (mut at_a, mut at_b) = (judge(a.exp()), judge(b.exp()));
    while high - low > 1e-3 {
        // What is not possible is so on one side only: at both points, the way back is towards the start.
        let left = if at_a.is_infinite() && at_b.is_infinite() { a > middle } else { at_a <= at_b };
        if left {
            (high, b, at_b) = (b, a, at_a);
            a = high - SHARE * (high - low);
            at_a = judge(a.exp());
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + SHARE * (high - low);
            at_b = judge(b.exp());
        }
    }
    ((low + high) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::{daly, daly_lifetime};

    const JOB: Job = Job { nodes: 1_000, ranks: 1_000, work_s: 864_000.0 };

    fn cost(blocking_s: f64, restart_s: f64) -> Cost {
        Cost { blocking_s, background_s: 0.0, restart_s }
    }

    #[test]
    fn alone_the_file_system_gets_dalys_interval() {
        let failures = Failures { replace_s: 0.0, ..Failures::default() };
        let plan = choose(&JOB, &failures, &[(LevelKind::ParallelFs, cost(60.0, 60.0))]).unwrap();
        let mtbf = 8.0 * 3_600.0;
        assert!((plan.levels[0].interval_s / daly(60.0, mtbf) - 1.0).abs() < 0.02, "{plan:?}");
        let lifetime = daly_lifetime(JOB.work_s, plan.levels[0].interval_s, 60.0, 60.0, mtbf);
        assert!((plan.lifetime_s / lifetime - 1.0).abs() < 1e-3);
    }

    #[test]
    fn a_level_that_does_not_pay_is_left_out() {
        let failures = Failures { rank_mtbf_hours: 1_000.0, ..Failures::default() };
        let local = (LevelKind::Local, cost(1.0, 1.0));
        let fs = (LevelKind::ParallelFs, cost(200.0, 200.0));
        let partner = |seconds| (LevelKind::Partner, cost(seconds, 10.0));
        let kinds = |offers: &[Offer]| {
            let plan = choose(&JOB, &failures, offers).unwrap();
            plan.levels.iter().map(|level| level.kind).collect::<Vec<_>>()
        };
        assert!(kinds(&[local, partner(5.0), fs]).contains(&LevelKind::Partner));
        assert_eq!(kinds(&[local, partner(500.0), fs]), [LevelKind::Local, LevelKind::ParallelFs]);
    }

    #[test]
    fn more_to_choose_from_is_never_worse_and_intervals_are_nested() {
        let failures = Failures { rank_mtbf_hours: 1_000.0, burst_buffer_mtbf_hours: 500.0, ..Failures::default() };
        let mut offers = vec![(LevelKind::ParallelFs, cost(200.0, 200.0))];
        let mut before = choose(&JOB, &failures, &offers).unwrap();
        for more in [
            (LevelKind::BurstBuffer, cost(60.0, 60.0)),
            (LevelKind::Xor { group: 8 }, cost(12.0, 30.0)),
            (LevelKind::Local, cost(1.0, 1.0)),
        ] {
            offers.push(more);
            let plan = choose(&JOB, &failures, &offers).unwrap();
            assert!(plan.lifetime_s <= before.lifetime_s * (1.0 + 1e-4), "{plan:?} after {before:?}");
            for two in plan.levels.windows(2) {
                let ratio = two[1].interval_s / two[0].interval_s;
                assert!(ratio >= 1.0 && (ratio - ratio.round()).abs() < 1e-9, "{plan:?}");
            }
            before = plan;
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        let failures = Failures::default();
        let refused = |job: &Job, offers: &[Offer]| choose(job, &failures, offers).unwrap_err().to_string();
        let small = Job { nodes: 4, ..JOB };
        assert!(refused(&JOB, &[]).contains("name at least one"));
        assert!(refused(&small, &[(LevelKind::Xor { group: 8 }, cost(1.0, 1.0))]).contains("make its groups smaller"));
        assert!(refused(&JOB, &[(LevelKind::Local, cost(f64::NAN, 1.0))]).contains("must be"));
        let twice = [(LevelKind::Local, cost(1.0, 1.0)); 2];
        assert!(refused(&JOB, &twice).contains("twice"));
    }
}
