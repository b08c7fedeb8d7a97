//! Correction on the ring of ranks: the second phase, in which every process that has the message
//! offers it to its neighbours, so that those which the first phase missed get it too.

use super::{CollectiveError, Rank};

/// How a process corrects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorrectionKind {
    /// Not at all.
    None,
    /// Send to the `distance / 2` next ranks to the left and the rest of `distance` to the right.
    /// No guarantee: a gap that is wider stays.
    Opportunistic {
        /// d, the number of correction messages of one process.
        distance: u32,
        /// Leave out what the sender of a correction message to us covers itself.
        optimised: bool,
    },
    /// Alternate directions at growing distance until as far as the nearest corrector heard from
    /// that side. All live processes are reached if no process fails during the collective.
    Checked,
    /// Go on until `faults + 1` correctors were heard from a side. All live processes are reached
    /// although up to `faults` processes fail at any time, each with any of its messages lost; the
    /// root must live. The proof is in docs/gossip-mgr-collectives.md.
    FailProof {
        /// f, the number of failures to survive.
        faults: u32,
    },
}

/// The side of the ring to which a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards lower ranks.
    Left,
    /// Towards higher ranks.
    Right,
}

#[derive(Clone, Debug, Default)]
struct Direction {
    /// Furthest distance sent to.
    sent: u32,
    /// Distance of the nearest corrector heard from this side; 0 while none was.
    nearest: u32,
    /// Correctors heard from this side.
    heard: u32,
}

/// The state of one correcting process: 24 bytes.
#[derive(Clone, Debug, Default)]
pub struct Correction {
    left: Direction,
    right: Direction,
}

/// What does not change during a collective.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    kind: CorrectionKind,
    processes: u32,
}

impl Ring {
    /// # Errors
    /// [`CollectiveError::NoProcesses`]; [`CollectiveError::Distance`] if an opportunistic distance
    /// would reach a process twice.
    pub fn new(kind: CorrectionKind, processes: u32) -> Result<Self, CollectiveError> {
        if processes == 0 {
            return Err(CollectiveError::NoProcesses);
        }
        if let CorrectionKind::Opportunistic { distance, .. } = kind
            && distance >= processes
        {
            return Err(CollectiveError::Distance { distance, processes });
        }
        Ok(Self { kind, processes })
    }

    /// Which correction this is.
    pub fn kind(&self) -> CorrectionKind {
        self.kind
    }

    /// P.
    pub fn processes(&self) -> u32 {
        self.processes
    }

    /// Whether a process that has the message only by correction corrects too.
    pub fn latecomers_take_part(&self) -> bool {
        matches!(self.kind, CorrectionKind::Opportunistic { .. })
    }

    fn reach(&self, side: Side) -> u32 {
        match (self.kind, side) {
            (CorrectionKind::None, _) => 0,
            (CorrectionKind::Opportunistic { distance, .. }, Side::Left) => distance / 2,
            (CorrectionKind::Opportunistic { distance, .. }, Side::Right) => distance - distance / 2,
            (CorrectionKind::Checked | CorrectionKind::FailProof { .. }, _) => self.processes - 1,
        }
    }

    /// The rank `distance` away from `rank`.
    fn at(&self, rank: Rank, side: Side, distance: u32) -> Rank {
        let (rank, distance) = (u64::from(rank), u64::from(distance));
        let processes = u64::from(self.processes);
        let to = match side {
            Side::Left => rank + processes - distance,
            Side::Right => rank + distance,
        };
        (to % processes) as Rank
    }

    /// The side to serve next when both are open. Ties: trees reach higher ranks later, so what
    /// opportunistic correction sends to the right is more often news.
    fn less_advanced(&self, left: u32, right: u32) -> Side {
        let left_on_tie = !self.latecomers_take_part();
        if left < right || (left == right && left_on_tie) { Side::Left } else { Side::Right }
    }

    fn is_closed(&self, direction: &Direction, side: Side) -> bool {
        direction.sent >= self.reach(side)
            || match self.kind {
                CorrectionKind::Checked => direction.nearest != 0 && direction.sent >= direction.nearest,
                CorrectionKind::FailProof { faults } => direction.heard > faults,
                _ => false,
            }
    }
}

impl Correction {
    /// Takes note of a correction message that `from` sent towards `side` and `rank` received. Each
    /// message must be told at most once.
    pub fn heard(&mut self, ring: &Ring, rank: Rank, from: Rank, side: Side) {
        let processes = ring.processes;
        let distance = match side {
            Side::Right => (processes + rank - from) % processes,
            Side::Left => (processes + from - rank) % processes,
        };
        if distance == 0 {
            return;
        }
        // What was sent towards the right comes from our left.
        let (near, far, near_side, far_side) = match side {
            Side::Right => (&mut self.left, &mut self.right, Side::Left, Side::Right),
            Side::Left => (&mut self.right, &mut self.left, Side::Right, Side::Left),
        };
        match ring.kind {
            CorrectionKind::None => {}
            CorrectionKind::Opportunistic { optimised, .. } => {
                if optimised {
                    near.sent = ring.reach(near_side);
                    far.sent = far.sent.max(ring.reach(far_side).saturating_sub(distance));
                }
            }
            CorrectionKind::Checked | CorrectionKind::FailProof { .. } => {
                near.nearest = if near.nearest == 0 { distance } else { near.nearest.min(distance) };
                near.heard += 1;
            }
        }
    }

    /// The next correction message of `rank`; `None` when nothing is left to send (for now: in
    /// checked and fail-proof correction for good).
    pub fn next(&mut self, ring: &Ring, rank: Rank) -> Option<(Rank, Side)> {
        if self.left.sent + self.right.sent + 1 >= ring.processes {
            return None;
        }
        let left_open = !ring.is_closed(&self.left, Side::Left);
        let right_open = !ring.is_closed(&self.right, Side::Right);
        let side = match (left_open, right_open) {
            (false, false) => return None,
            (true, false) => Side::Left,
            (false, true) => Side::Right,
            (true, true) => ring.less_advanced(self.left.sent, self.right.sent),
        };
        let direction = match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        };
        direction.sent += 1;
        Some((ring.at(rank, side, direction.sent), side))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(kind: CorrectionKind) -> Ring {
        Ring::new(kind, 10).unwrap()
    }

    fn drain(correction: &mut Correction, ring: &Ring, rank: Rank) -> Vec<Rank> {
        std::iter::from_fn(|| correction.next(ring, rank)).map(|(to, _)| to).collect()
    }

    #[test]
    fn opportunistic_splits_its_distance_over_both_sides() {
        let ring = ring(CorrectionKind::Opportunistic { distance: 3, optimised: false });
        assert_eq!(drain(&mut Correction::default(), &ring, 0), [1, 9, 2]);
    }

    #[test]
    fn optimised_leaves_out_what_the_sender_covers() {
        let ring = ring(CorrectionKind::Opportunistic { distance: 6, optimised: true });
        let mut correction = Correction::default();
        // 3 corrects up to 6: what is left for 5 is 7 and 8; the left side is 3's.
        correction.heard(&ring, 5, 3, Side::Right);
        assert_eq!(drain(&mut correction, &ring, 5), [7, 8]);
    }

    #[test]
    fn a_lone_corrector_covers_the_ring_once() {
        for kind in [CorrectionKind::Checked, CorrectionKind::FailProof { faults: 2 }] {
            let mut reached = drain(&mut Correction::default(), &ring(kind), 4);
            reached.sort_unstable();
            assert_eq!(reached, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
        }
    }

    #[test]
    fn checked_stops_at_the_nearest_corrector() {
        let ring = ring(CorrectionKind::Checked);
        let mut correction = Correction::default();
        correction.heard(&ring, 4, 6, Side::Left);
        correction.heard(&ring, 4, 3, Side::Right);
        assert_eq!(drain(&mut correction, &ring, 4), [3, 5, 6]);
    }

    #[test]
    fn fail_proof_wants_more_correctors_than_faults() {
        let ring = ring(CorrectionKind::FailProof { faults: 1 });
        let mut correction = Correction::default();
        correction.heard(&ring, 4, 5, Side::Left);
        correction.heard(&ring, 4, 3, Side::Right);
        assert_eq!(correction.next(&ring, 4), Some((3, Side::Left)));
        correction.heard(&ring, 4, 6, Side::Left);
        correction.heard(&ring, 4, 2, Side::Right);
        assert_eq!(correction.next(&ring, 4), None);
    }
}
