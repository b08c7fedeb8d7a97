//! The expected lifetime of a job that writes nested checkpoints.
//!
//! A block of stage k is `every` blocks of stage k-1, of which the last ends with a checkpoint of level k; a block of
//! stage 0 is work with a checkpoint of level 0. Failures of class k come at a constant rate, independently, throw the
//! job back to the begin of its block of stage k, after a restart, and are not restored by lower levels. The whole job
//! is the block of one more stage, whose failures are those that no level restores.
//!
//! Let φ_k(s) = E[exp(-s T)] be the Laplace transform of the time T that a block of stage k takes with failures of the
//! classes 0..=k, and A(s) that of its parts in a row, without failures of class k. A failure of class k comes first,
//! at rate μ, with the probability that A tells, as exp(-μt) is the chance of none within t:
//!
//! φ_k(s) = A(s+μ) + μ/(s+μ) · (1 - A(s+μ)) · ρ(s) · φ_k(s), with ρ the transform of a restart.
//!
//! Solved for φ_k this needs φ_{k-1} at s+μ only, and so on down to exponentials. The mean follows from the same
//! equation at s → 0: (1 - A(μ)) / A(μ) · (1/μ + mean restart). With one level this is Daly's lifetime, with two levels
//! Vaidya's chain, with more Moody's, but with restarts that begin again where one is interrupted.
//!
//! A checkpoint that is complete only some time after the job went on is no use until then: a failure before is thrown
//! back one block more. Counted from completion to completion, that is as a block of the same length and a restart that
//! is followed by that much work again.

/// One level in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Failures a second that this level restores and those below do not.
    pub rate: f64,
    /// Seconds that a checkpoint of this level costs in all.
    pub cost: f64,
    /// Seconds until it is complete, counted from when the job goes on.
    pub lag: f64,
    /// Seconds that a restart takes.
    pub restart: f64,
    /// Blocks of the stage below; for the lowest stage seconds of work.
    pub every: f64,
}

/// A job with its levels, from the cheapest on.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The levels.
    pub stages: Vec<Stage>,
    /// Seconds of work.
    pub work: f64,
    /// Failures a second that no level restores: the job starts over.
    pub beyond: f64,
    /// Seconds that this takes.
    pub start_over: f64,
}

impl Pattern {
    /// Seconds of work between two checkpoints of a level or a higher one.
    pub fn interval(&self, stage: usize) -> f64 {
        self.stages[..=stage].iter().map(|stage| stage.every).product()
    }

    /// Expected seconds from the start of the job to its end.
    pub fn lifetime(&self) -> f64 {
        let Some(last) = self.stages.len().checked_sub(1) else {
            return daly_like(self.work, self.beyond, self.start_over, 0.0);
        };
        let blocks = (self.work / self.interval(last)).max(1.0);
        let mu = self.beyond;
        if mu > 0.0 {
            let whole = self.in_a_row(last + 1, blocks, mu, 0.0);
            let below: f64 = self.stages.iter().map(|stage| stage.rate).sum();
            let restart = mean_restart(self.start_over, below + mu);
            return (1.0 - whole) / whole * (1.0 / mu + restart);
        }
        let cost = self.stages[last].cost;
        (blocks - 1.0) * self.mean(last, cost) + self.mean(last, 0.0)
    }

    /// What a lifetime has beyond the work, as a share of it.
    pub fn overhead(&self) -> f64 {
        self.lifetime() / self.work - 1.0
    }

    /// The mean time of a block of stage `k` that ends with a checkpoint of this cost.
    fn mean(&self, k: usize, cost: f64) -> f64 {
        let stage = &self.stages[k];
        let mu = stage.rate;
        if mu <= 0.0 {
            return match k.checked_sub(1) {
                None => stage.every + cost,
                Some(below) => (stage.every - 1.0) * self.mean(below, self.stages[below].cost) + self.mean(below, cost),
            };
        }
        let row = self.in_a_row(k, stage.every, mu, cost);
        // A restart, with those that fail while it goes on; the end of the redone work counts as its end.
        let attempt = self.restart_attempt(k, mu);
        let restart = (1.0 - attempt) / attempt / mu;
        (1.0 - row) / row * (1.0 / mu + restart)
    }

    /// φ: the transform at `s` of the time of a block of stage `k` that ends with a checkpoint of this cost.
    fn transform(&self, k: usize, s: f64, cost: f64) -> f64 {
        let stage = &self.stages[k];
        let mu = stage.rate;
        let row = self.in_a_row(k, stage.every, s + mu, cost);
        if mu <= 0.0 {
            return row;
        }
        let again = mu / (s + mu);
        let attempt = self.restart_attempt(k, s + mu);
        let restart = attempt / (1.0 - again * (1.0 - attempt));
        row / (1.0 - again * (1.0 - row) * restart)
    }

    /// A: the transform of `every` parts of stage `k` in a row of which the last ends with a checkpoint of this cost.
    fn in_a_row(&self, k: usize, every: f64, s: f64, cost: f64) -> f64 {
        match k.checked_sub(1) {
            None => (-s * (every + cost)).exp(),
            Some(below) => {
                let last = self.transform(below, s, cost);
                if every <= 1.0 {
                    return last;
                }
                self.transform(below, s, self.stages[below].cost).powf(every - 1.0) * last
            }
        }
    }

    /// The transform of a restart from stage `k` and of the work that is done again, without failures of class `k`.
    fn restart_attempt(&self, k: usize, s: f64) -> f64 {
        let stage = &self.stages[k];
        let below: f64 = self.stages[..k].iter().map(|stage| stage.rate).sum();
        let through = (-(s + below) * stage.restart).exp();
        let restart = through / (1.0 - below / (s + below) * (1.0 - through));
        if stage.lag <= 0.0 {
            return restart;
        }
        let again = match k.checked_sub(1) {
            None => (-s * stage.lag).exp(),
            Some(below) => {
                let cost = self.stages[below].cost;
                let length = self.interval(below) + cost;
                self.transform(below, s, cost).powf(stage.lag / length)
            }
        };
        restart * again
    }
}

/// The mean time of a restart that takes `seconds` and begins again at each failure.
pub(crate) fn mean_restart(seconds: f64, rate: f64) -> f64 {
    if rate > 0.0 { (rate * seconds).exp_m1() / rate } else { seconds }
}

/// Work with a checkpoint at its end under failures that undo all of it.
fn daly_like(work: f64, rate: f64, restart: f64, cost: f64) -> f64 {
    if rate > 0.0 { (rate * (work + cost)).exp_m1() * (1.0 / rate + mean_restart(restart, rate)) } else { work + cost }
}
