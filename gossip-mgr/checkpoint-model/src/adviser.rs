//! What a job does next, from what was measured so far.

use crate::choice::{Offer, Plan, choose};
use crate::{Cost, Failures, Job, LevelKind, ModelError};

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Ranks died, their nodes live.
    Light,
    /// A node died.
    Node,
    /// The nodes of a failure group died together.
    Group,
}

/// Weight of a new measurement of a cost.
const NEW: f64 = 0.3;

/// The plan is made anew once a cost or a rate has changed by this share.
const CHANGED: f64 = 0.05;

/// A level while the job runs.
#[derive(Clone, Copy, Debug)]
struct Level {
    kind: LevelKind,
    cost: Cost,
    measured: bool,
    /// When the newest complete checkpoint of this level was begun; the start of the job counts as one.
    newest: f64,
    /// When one that is not complete yet was begun.
    under_way: Option<f64>,
}

/// Decides for one job which checkpoint it writes when. All times are seconds since the job's start.
#[derive(Clone, Debug)]
pub struct Adviser {
    job: Job,
    prior: Failures,
    failures: Failures,
    levels: Vec<Level>,
    plan: Plan,
    /// What the plan was made for.
    planned: (Vec<Cost>, Failures),
    counts: [u32; 3],
}

impl Adviser {
    /// With the rates as configured and guesses of the costs.
    ///
    /// # Errors
    /// [`ModelError`] if something makes no sense.
    pub fn new(job: Job, failures: Failures, offers: &[Offer]) -> Result<Self, ModelError> {
        let plan = choose(&job, &failures, offers)?;
        let mut levels: Vec<Level> = offers
            .iter()
            .map(|&(kind, cost)| Level { kind, cost, measured: false, newest: 0.0, under_way: None })
            .collect();
        levels.sort_by_key(|level| level.kind);
        let planned = (levels.iter().map(|level| level.cost).collect(), failures.clone());
        Ok(Self { job, prior: failures.clone(), failures, levels, plan, planned, counts: [0; 3] })
    }

    /// The present plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The rates as they are believed to be now.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// The level at which a checkpoint is due, if one is: the highest whose time comes before half of the lowest
    /// interval is over, as checkpoints are nested. None that is not complete is begun again.
    pub fn wanted(&self, now: f64) -> Option<LevelKind> {
        self.wanted_among(now, |_| true)
    }

    /// The same with only those levels that may be written now.
    pub fn wanted_among(&self, now: f64, may: impl Fn(LevelKind) -> bool) -> Option<LevelKind> {
        let lowest = self.plan.levels.first()?;
        if now - self.newest_of(lowest.kind, true) < lowest.interval_s {
            return None;
        }
        let due = |kind, interval: f64| now - self.newest_of(kind, true) >= interval - lowest.interval_s / 2.0;
        let free = |kind| may(kind) && self.level(kind).is_some_and(|level| level.under_way.is_none());
        let mut levels = self.plan.levels.iter().rev();
        levels.find(|level| due(level.kind, level.interval_s) && free(level.kind)).map(|level| level.kind)
    }

    /// What a level costs is guessed anew, if nothing was measured.
    pub fn guess(&mut self, kind: LevelKind, cost: Cost) {
        if let Some(level) = self.levels.iter_mut().find(|level| level.kind == kind && !level.measured) {
            level.cost = cost;
            self.plan_anew();
        }
    }

    /// The newest checkpoint of this level was begun then.
    pub fn newest_is_from(&mut self, kind: LevelKind, begun: f64) {
        if let Some(level) = self.levels.iter_mut().find(|level| level.kind == kind) {
            level.newest = begun;
        }
    }

    /// A checkpoint of this level was begun.
    pub fn began(&mut self, kind: LevelKind, now: f64) {
        if let Some(level) = self.levels.iter_mut().find(|level| level.kind == kind) {
            level.under_way = Some(now);
        }
    }

    /// One that began at `started` is complete: it blocked the application for so long, and then was written in the
    /// background for so long.
    pub fn wrote(&mut self, kind: LevelKind, started: f64, blocking_s: f64, background_s: f64) {
        let Some(level) = self.levels.iter_mut().find(|level| level.kind == kind) else {
            return;
        };
        level.under_way = None;
        level.newest = level.newest.max(started);
        let new = if level.measured { NEW } else { 1.0 };
        level.measured = true;
        follow(&mut level.cost.blocking_s, blocking_s, new);
        follow(&mut level.cost.background_s, background_s, new);
        self.plan_anew();
    }

    /// One that was begun came to nothing.
    pub fn gave_up(&mut self, kind: LevelKind) {
        if let Some(level) = self.levels.iter_mut().find(|level| level.kind == kind) {
            level.under_way = None;
        }
    }

    /// The job was restored from this level, with the checkpoint that was begun at `from`, in so many seconds, and goes
    /// on at `now`. Newer checkpoints of other levels are of no use any more.
    pub fn restored(&mut self, kind: LevelKind, from: f64, seconds: f64, now: f64) {
        for level in &mut self.levels {
            level.under_way = None;
            if level.kind == kind {
                follow(&mut level.cost.restart_s, seconds, NEW);
            }
            // What was lost is worked again: the age of a checkpoint is the work since then.
            level.newest = now - (from - level.newest).max(0.0);
        }
        self.plan_anew();
    }

    /// Something failed at `now`. The mean time to a failure is believed to be that of the configuration after one
    /// failure, and follows what is seen with more of them.
    pub fn failed(&mut self, now: f64, what: FailureKind) {
        self.counts[what as usize] += 1;
        self.learn(now);
    }

    /// Takes the time without failures into account; once in a while is enough.
    pub fn learn(&mut self, now: f64) {
        let hours = now.max(0.0) / 3_600.0;
        // A failure that the configuration promised, and its time, beside those seen.
        let believed = |prior: f64, components: f64, seen: u32| {
            if prior.is_infinite() && seen == 0 {
                return prior;
            }
            let prior = if prior.is_finite() { prior } else { components * hours };
            (prior + components * hours) / f64::from(1 + seen)
        };
        let [light, node, group] = self.counts;
        self.failures.rank_mtbf_hours = believed(self.prior.rank_mtbf_hours, f64::from(self.job.ranks), light);
        self.failures.node_mtbf_hours = believed(self.prior.node_mtbf_hours, f64::from(self.job.nodes), node);
        // Which group failed is not told apart: all kinds are scaled alike.
        let all = self.prior.correlated(&self.job) * 3_600.0;
        for (now, prior) in self.failures.groups.iter_mut().zip(&self.prior.groups) {
            now.mtbf_hours = prior.mtbf_hours * (1.0 + all * hours) / f64::from(1 + group);
        }
        self.plan_anew();
    }

    /// The expected seconds that a failure now would cost: work since the newest checkpoint that restores it, and the
    /// restart.
    pub fn loss_now(&self, now: f64) -> f64 {
        let all = self.failures.interruptions(&self.job);
        let mut left = all;
        let mut loss = 0.0;
        for level in &self.levels {
            if !self.plan.levels.iter().any(|planned| planned.kind == level.kind) {
                continue;
            }
            let beyond = self.failures.beyond(level.kind, &self.job, level.cost.restart_s).min(left);
            loss += (left - beyond) * (now - self.newest_of(level.kind, false) + level.cost.restart_s);
            left = beyond;
        }
        if all > 0.0 { (loss + left * (now + self.failures.replace_s)) / all } else { 0.0 }
    }

    fn level(&self, kind: LevelKind) -> Option<&Level> {
        self.levels.iter().find(|level| level.kind == kind)
    }

    /// When the newest checkpoint of a level or a higher one was begun, with those `under_way` or without.
    fn newest_of(&self, kind: LevelKind, under_way: bool) -> f64 {
        let begun = |level: &Level| if under_way { level.under_way } else { None }.unwrap_or(0.0).max(level.newest);
        self.levels.iter().filter(|level| level.kind >= kind).map(begun).fold(0.0, f64::max)
    }

    fn plan_anew(&mut self) {
        let costs: Vec<Cost> = self.levels.iter().map(|level| level.cost).collect();
        let near = |a: f64, b: f64| a == b || (a - b).abs() <= CHANGED * a.max(b);
        let same_costs = costs.iter().zip(&self.planned.0).all(|(a, b)| {
            near(a.blocking_s, b.blocking_s) && near(a.background_s, b.background_s) && near(a.restart_s, b.restart_s)
        });
        let (now, then) = (&self.failures, &self.planned.1);
        let same_rates = near(now.rank_mtbf_hours, then.rank_mtbf_hours)
            && near(now.node_mtbf_hours, then.node_mtbf_hours)
            && now.groups.iter().zip(&then.groups).all(|(a, b)| near(a.mtbf_hours, b.mtbf_hours));
        if same_costs && same_rates {
            return;
        }
        let offers: Vec<Offer> = self.levels.iter().map(|level| (level.kind, level.cost)).collect();
        // A measurement that makes no sense changes nothing.
        if let Ok(plan) = choose(&self.job, &self.failures, &offers) {
            self.plan = plan;
            self.planned = (costs, self.failures.clone());
        }
    }
}

fn follow(value: &mut f64, measured: f64, weight: f64) {
    if measured.is_finite() && measured >= 0.0 {
        *value += weight * (measured - *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adviser() -> Adviser {
        let job = Job { nodes: 64, ranks: 64, work_s: 864_000.0 };
        let failures = Failures { node_mtbf_hours: 500.0, rank_mtbf_hours: 100.0, ..Failures::default() };
        let cost = |blocking_s| Cost { blocking_s, background_s: 0.0, restart_s: 2.0 * blocking_s };
        Adviser::new(job, failures, &[(LevelKind::ParallelFs, cost(300.0)), (LevelKind::Local, cost(1.0))]).unwrap()
    }

    #[test]
    fn levels_are_due_when_their_intervals_are_over_and_the_highest_goes_first() {
        let mut a = adviser();
        let [local, fs] = [0, 1].map(|i| a.plan().levels[i].interval_s);
        let (mut now, mut high, mut low) = (0.0, Vec::new(), 0);
        while now < 3.5 * fs {
            now += local / 50.0;
            match a.wanted(now) {
                Some(LevelKind::ParallelFs) => high.push(now),
                Some(_) => low += 1,
                None => continue,
            }
            let kind = if high.last() == Some(&now) { LevelKind::ParallelFs } else { LevelKind::Local };
            let cost = a.level(kind).unwrap().cost;
            a.wrote(kind, now, cost.blocking_s, 0.0);
        }
        assert_eq!(high.len(), 3, "{high:?}, intervals {local} and {fs}");
        assert!(high.iter().zip(1..).all(|(&at, n)| (at - f64::from(n) * fs).abs() < local * f64::from(n)), "{high:?}");
        let blocks = 3.5 * fs / local;
        assert!((f64::from(low) + 3.0 - blocks).abs() <= blocks / 40.0 + 1.0, "{low} of {blocks}");
    }

    #[test]
    fn a_checkpoint_under_way_is_not_begun_again() {
        let mut a = adviser();
        let now = 3.0 * a.plan().levels[1].interval_s;
        assert_eq!(a.wanted(now), Some(LevelKind::ParallelFs));
        a.began(LevelKind::ParallelFs, now);
        assert_eq!(a.wanted(now + 1.0), None);
        let later = now + a.plan().levels[1].interval_s + 1.0;
        assert_eq!(a.wanted(later), Some(LevelKind::Local));
        a.gave_up(LevelKind::ParallelFs);
        assert_eq!(a.wanted(later), Some(LevelKind::ParallelFs));
    }

    #[test]
    fn measured_costs_and_failures_move_the_intervals() {
        let mut a = adviser();
        let before = a.plan().levels[1].interval_s;
        a.wrote(LevelKind::ParallelFs, 10.0, 30.0, 0.0);
        let cheaper = a.plan().levels[1].interval_s;
        assert!(cheaper < 0.6 * before, "{cheaper} {before}");
        for n in 0..20 {
            a.failed(3_600.0 * f64::from(n), FailureKind::Node);
        }
        assert!(a.failures().node_mtbf_hours < 100.0);
        assert!(a.plan().levels[1].interval_s < 0.7 * cheaper);
    }

    #[test]
    fn what_a_failure_costs_falls_with_each_checkpoint() {
        let mut a = adviser();
        let before = a.loss_now(10_000.0);
        a.wrote(LevelKind::Local, 9_000.0, 1.0, 0.0);
        let local = a.loss_now(10_000.0);
        a.wrote(LevelKind::ParallelFs, 9_500.0, 300.0, 0.0);
        let both = a.loss_now(10_000.0);
        assert!(both < local && local < before, "{both} {local} {before}");
        // After a restart from the local checkpoint the file system's is as old as it was.
        a.restored(LevelKind::Local, 9_500.0, 5.0, 10_200.0);
        assert!((a.newest_of(LevelKind::ParallelFs, false) - 10_200.0).abs() < 1e-9);
    }
}
