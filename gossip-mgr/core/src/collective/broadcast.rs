//! Broadcast in two phases: dissemination by a tree or by gossip, then correction on the ring.

use super::correction::{Correction, CorrectionKind, Ring, Side};
use super::topology::Tree;
use super::{CollectiveError, Rank, Time};
use crate::rng::Rng;

/// How the first phase spreads the message.
#[derive(Clone, Debug)]
pub enum Dissemination {
    /// Along a tree.
    Tree(Tree),
    /// Every process that has the message sends it to uniformly random others.
    Gossip {
        /// Until this time after the start.
        until: Time,
    },
}

/// When a process begins to correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phasing {
    /// All at the same time, at the end of dissemination: processes that get the message later than
    /// that take no part.
    Synchronised,
    /// Each as soon as it has nothing else to send.
    Overlapped,
}

/// What a message says beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Dissemination.
    Spread,
    /// Correction, sent towards that side.
    Correct(Side),
}

/// What a process wants to do when its sending port is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the payload.
    Send {
        /// Receiver.
        to: Rank,
        /// What to tell it.
        kind: Kind,
    },
    /// Ask again at that time, or when something was received.
    At(Time),
    /// Ask again when something was received.
    Wait,
}

/// Everything about a broadcast that all its processes share.
#[derive(Clone, Debug)]
pub struct Plan {
    dissemination: Dissemination,
    ring: Ring,
    /// When correction begins, for [`Phasing::Synchronised`].
    correct_at: Option<Time>,
}

impl Plan {
    /// A broadcast over `processes` ranks. The deadline of a synchronised tree is the fault-free
    /// completion time of the tree.
    ///
    /// # Errors
    /// See [`Ring::new`].
    pub fn new(
        processes: u32,
        dissemination: Dissemination,
        correction: CorrectionKind,
        phasing: Phasing,
    ) -> Result<Self, CollectiveError> {
        let correct_at = match (&dissemination, phasing) {
            (Dissemination::Gossip { until }, _) => Some(*until),
            (Dissemination::Tree(tree), Phasing::Synchronised) => Some(tree.deadline()),
            (Dissemination::Tree(_), Phasing::Overlapped) => None,
        };
        let ring = Ring::new(correction, processes)?;
        Ok(Self { dissemination, ring, correct_at })
    }

    /// P.
    pub fn processes(&self) -> u32 {
        self.ring.processes()
    }

    /// Whether runs differ although nobody fails.
    pub fn is_random(&self) -> bool {
        matches!(self.dissemination, Dissemination::Gossip { .. })
    }
}

/// One process of a broadcast.
#[derive(Clone, Debug)]
pub struct Broadcast {
    rank: Rank,
    reached: bool,
    corrects: bool,
    children_served: u32,
    correction: Correction,
    rng: Rng,
}

impl Broadcast {
    /// The process `rank`; rank 0 has the message.
    pub fn new(rank: Rank, seed: u64) -> Self {
        let root = rank == 0;
        Self {
            rank,
            reached: root,
            corrects: root,
            children_served: 0,
            correction: Correction::default(),
            rng: Rng::new(seed, u64::from(rank)),
        }
    }

    /// Whether this process has the message.
    pub fn is_reached(&self) -> bool {
        self.reached
    }

    /// Takes a message. A receiver that did not have the payload has it now.
    pub fn receive(&mut self, plan: &Plan, now: Time, from: Rank, kind: Kind) {
        if !self.reached {
            self.reached = true;
            let in_time = plan.correct_at.is_none_or(|at| now <= at);
            self.corrects = plan.ring.latecomers_take_part() || (in_time && kind == Kind::Spread);
            if !in_time && let Dissemination::Tree(tree) = &plan.dissemination {
                // The tree is over: the orphans below are left to correction.
                self.children_served = tree.children(self.rank).len() as u32;
            }
        }
        if let Kind::Correct(side) = kind {
            self.correction.heard(&plan.ring, self.rank, from, side);
        }
    }

    /// What to do now that the sending port is free.
    pub fn next(&mut self, plan: &Plan, now: Time) -> Next {
        if !self.reached {
            return Next::Wait;
        }
        match &plan.dissemination {
            Dissemination::Tree(tree) => {
                let child = tree.children(self.rank).get(self.children_served as usize);
                if let Some(&to) = child {
                    self.children_served += 1;
                    return Next::Send { to, kind: Kind::Spread };
                }
            }
            Dissemination::Gossip { until } => {
                if now < *until && plan.processes() > 1 {
                    let drawn = self.rng.below(u64::from(plan.processes()) - 1) as Rank;
                    let to = if drawn >= self.rank { drawn + 1 } else { drawn };
                    return Next::Send { to, kind: Kind::Spread };
                }
            }
        }
        if !self.corrects {
            return Next::Wait;
        }
        if let Some(at) = plan.correct_at
            && now < at
        {
            return Next::At(at);
        }
        match self.correction.next(&plan.ring, self.rank) {
            Some((to, side)) => Next::Send { to, kind: Kind::Correct(side) },
            None => Next::Wait,
        }
    }
}
