//! A job under failures of its components, with nested checkpoints of several levels.
//!
//! It knows nothing of the model's rates and classes: single ranks, nodes and groups of nodes fail, redundancy groups lie
//! across the nodes, and a level helps if what it needs is still there.

use std::collections::BTreeSet;

use gossip_checkpoint_model::choice::Setting;
use gossip_checkpoint_model::lifetime::Pattern;
use gossip_checkpoint_model::{Failures, Job, LevelKind};
use gossip_core::rng::Rng;

/// A job whose time is this many times its work has not ended.
pub const HOPELESS: f64 = 20.0;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The job.
    pub job: &'a Job,
    /// What fails.
    pub failures: &'a Failures,
    /// The levels in use; of the pattern only costs and intervals are looked at.
    pub setting: &'a Setting<'a>,
    /// Their intervals.
    pub pattern: &'a Pattern,
}

/// Mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Of the mean.
    pub error: f64,
}

impl Mean {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let square = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self { value, error: (square / n).sqrt() }
    }
}

/// The mean overhead, time beyond the work as a share of it, of `runs` runs; infinite if one does not end.
pub fn overhead(run: Run, runs: u64, seed: u64) -> Mean {
    let overheads: Vec<f64> = (0..runs).map(|n| lifetime(run, &mut Rng::new(seed, n)) / run.job.work_s - 1.0).collect();
    if overheads.iter().all(|overhead| overhead.is_finite()) {
        Mean::of(&overheads)
    } else {
        Mean { value: f64::INFINITY, error: 0.0 }
    }
}

/// The time that one job takes; infinite if it makes no headway.
pub fn lifetime(run: Run, rng: &mut Rng) -> f64 {
    Simulation::new(run, rng).run()
}

struct Simulation<'a> {
    run: Run<'a>,
    rng: &'a mut Rng,
    now: f64,
    next_failure: f64,
    next_store_loss: f64,
    /// When the burst buffer lost all last.
    store_lost: f64,
    /// Blocks of the lowest stage that are done.
    done: u64,
    /// The newest complete checkpoint of each level: blocks done, and when it was begun.
    complete: Vec<(u64, f64)>,
    /// One that is still written, and when it is complete.
    pending: Vec<Option<((u64, f64), f64)>>,
    /// Nodes whose storage is gone and not whole again.
    lost: BTreeSet<u32>,
}

impl<'a> Simulation<'a> {
    fn new(run: Run<'a>, rng: &'a mut Rng) -> Self {
        let levels = run.pattern.stages.len();
        let mut new = Self {
            run,
            rng,
            now: 0.0,
            next_failure: 0.0,
            next_store_loss: 0.0,
            store_lost: f64::NEG_INFINITY,
            done: 0,
            complete: vec![(0, 0.0); levels],
            pending: vec![None; levels],
            lost: BTreeSet::new(),
        };
        new.next_failure = new.after(run.failures.interruptions(run.job));
        new.next_store_loss = new.after(run.failures.hidden(LevelKind::BurstBuffer));
        new
    }

    /// When something comes next that comes at this rate.
    fn after(&mut self, rate: f64) -> f64 {
        if rate > 0.0 { self.now - (1.0 - self.rng.unit()).ln() / rate } else { f64::INFINITY }
    }

    fn run(mut self) -> f64 {
        let (work, block) = (self.run.job.work_s, self.run.pattern.interval(0));
        let blocks = ((work / block) - 1e-9).ceil().max(1.0) as u64;
        while self.now < HOPELESS * work {
            let last = self.done + 1 == blocks;
            let level = self.level_of(self.done + 1);
            let stage = self.run.pattern.stages[level];
            let duration = if last { work - block * self.done as f64 } else { block + stage.cost };
            if self.now + duration > self.next_failure {
                self.fail();
                continue;
            }
            self.now += duration;
            self.done += 1;
            if last {
                return self.now;
            }
            self.settle();
            for below in 0..=level {
                // As a lower level it is there with the lower level's own delay.
                let lag = self.run.pattern.stages[below].lag;
                self.pending[below] = Some(((self.done, self.now), self.now + lag));
            }
        }
        f64::INFINITY
    }

    /// The level of the checkpoint after so many blocks.
    fn level_of(&self, blocks: u64) -> usize {
        let mut every = 1;
        let higher = self.run.pattern.stages.iter().skip(1).take_while(|stage| {
            every *= stage.every.round() as u64;
            blocks.is_multiple_of(every)
        });
        higher.count()
    }

    /// What is written by now is complete.
    fn settle(&mut self) {
        for (complete, pending) in self.complete.iter_mut().zip(&mut self.pending) {
            if let Some((checkpoint, at)) = *pending
                && at <= self.now
            {
                *complete = checkpoint;
                *pending = None;
            }
        }
    }

    /// The next failure and the restart after it, with all that fail meanwhile.
    fn fail(&mut self) {
        let mut helped = None;
        let level = loop {
            self.now = self.next_failure;
            let mut news = self.strike();
            self.next_failure = self.after(self.run.failures.interruptions(self.run.job));
            self.settle();
            while self.next_store_loss <= self.now {
                self.store_lost = self.next_store_loss;
                news = true;
                let rate = self.run.failures.hidden(LevelKind::BurstBuffer);
                self.next_store_loss -= (1.0 - self.rng.unit()).ln() / rate;
            }
            // Only what is lost newly makes a difference to a restart that was begun.
            let level = match helped {
                Some(level) if !news => level,
                _ => (0..self.complete.len()).find(|&level| self.helps(level)),
            };
            helped = Some(level);
            let seconds = level.map_or(self.run.failures.replace_s, |l| self.run.pattern.stages[l].restart);
            if self.now + seconds <= self.next_failure {
                self.now += seconds;
                break level;
            }
            if self.now > HOPELESS * self.run.job.work_s {
                return;
            }
        };
        self.lost.clear();
        let (from, newest) = match level {
            Some(level) => (level, self.complete[level]),
            None => (self.complete.len(), (0, self.now)),
        };
        self.done = newest.0;
        // All that a lower level has is from the same state now; what a higher one was still writing goes on.
        for level in 0..from.min(self.complete.len()) {
            self.complete[level] = newest;
        }
        for level in 0..(from + 1).min(self.pending.len()) {
            self.pending[level] = None;
        }
    }

    /// Whose failure it is; whether storage was lost.
    fn strike(&mut self) -> bool {
        let (job, failures) = (self.run.job, self.run.failures);
        let mut at = self.rng.unit() * failures.interruptions(job);
        at -= failures.light(job);
        if at < 0.0 {
            return false;
        }
        at -= failures.fatal(job);
        if at < 0.0 {
            let node = self.rng.below(job.nodes.into()) as u32;
            self.lost.insert(node);
            return true;
        }
        for group in &failures.groups {
            let groups = job.nodes.div_ceil(group.size);
            at -= f64::from(groups) / (group.mtbf_hours * 3_600.0);
            if at < 0.0 {
                let first = self.rng.below(groups.into()) as u32 * group.size;
                self.lost.extend(first..(first + group.size).min(job.nodes));
                return true;
            }
        }
        false
    }

    /// Whether a level has what a restart needs.
    fn helps(&self, level: usize) -> bool {
        let nodes = self.run.job.nodes;
        match self.run.setting.levels()[level].0 {
            LevelKind::Local => self.lost.is_empty(),
            LevelKind::Xor { group } => self.groups_hold(group, 1),
            LevelKind::ReedSolomon { data, parity } => self.groups_hold(data + parity, parity),
            // A third of the way round: two nodes share no failure group if there are three.
            LevelKind::Partner => {
                let step = (nodes / 3).max(1);
                self.lost.iter().all(|&node| !self.lost.contains(&((node + step) % nodes)))
            }
            LevelKind::BurstBuffer => self.store_lost < self.complete[level].1 || self.complete[level].0 == 0,
            LevelKind::ParallelFs => true,
        }
    }

    /// Groups lie across the machine: members are as far apart as there are groups.
    fn groups_hold(&self, members: u32, spare: u32) -> bool {
        let groups = self.run.job.nodes.div_ceil(members);
        let mut hit: Vec<u32> = self.lost.iter().map(|node| node % groups).collect();
        hit.sort_unstable();
        hit.chunk_by(|a, b| a == b).all(|group| group.len() <= spare as usize)
    }
}
