//! Exhaustive check of the fail-proof stop rule on small rings.
//!
//! For every set of correctors that contains the root, every subset of them that starts only after
//! the others have finished, and every choice of up to f failing correctors other than the root: is
//! every live process reached? A failing process sends a number of messages before it stops, and the
//! adversary loses those of them that would help (to processes without the message) while those that
//! silence other correctors arrive. That is the worst loss: a corrector that hears less sends more.
//! For the same reason the worst time to fail is after the last message; [`Crashes::AtAnyTime`] tries
//! the others too. A failing process that is no corrector sends nothing and changes nothing.

use gossip_core::collective::Rank;
use gossip_core::collective::correction::{Correction, CorrectionKind, Ring, Side};

/// When failing processes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crashes {
    /// After any number of messages.
    AtAnyTime,
    /// After their last message.
    AtTheEnd,
}

/// A case in which a live process was not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterExample {
    /// P.
    pub processes: u32,
    /// Bit r: rank r corrects.
    pub correctors: u32,
    /// Of these, bit r: starts after the others.
    pub late: u32,
    /// Failing correctors and the number of messages each sent before.
    pub failures: Vec<(Rank, u32)>,
    /// A live process that was not reached.
    pub unreached: Rank,
}

/// How much was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Executions.
    pub cases: u64,
    /// The first failure found, if any.
    pub counter_example: Option<CounterExample>,
}

/// Checks `kind` on a ring of `processes` (at most 20) with up to `faults` failures, with messages
/// that take `delay` steps (1 to 8).
pub fn check(
    kind: CorrectionKind,
    processes: u32,
    faults: u32,
    crashes: Crashes,
    delay: u32,
) -> Report {
    let mut report = Report::default();
    let Ok(ring) = Ring::new(kind, processes) else {
        return report;
    };
    for others in 0..1u32 << (processes - 1) {
        let correctors = others << 1 | 1;
        let mut late = correctors;
        loop {
            let case = Case {
                ring,
                correctors,
                late,
                delay,
            };
            case.explore(1, faults, crashes, &mut Vec::new(), &mut report);
            if late == 0 || report.counter_example.is_some() {
                break;
            }
            late = (late - 1) & correctors;
        }
        if report.counter_example.is_some() {
            break;
        }
    }
    report
}

struct Case {
    ring: Ring,
    correctors: u32,
    late: u32,
    delay: u32,
}

const MAX: usize = 20;
const MAX_DELAY: usize = 8;

impl Case {
    /// Tries every way to add up to `left` failures among the correctors from rank `from` on.
    fn explore(
        &self,
        from: Rank,
        left: u32,
        crashes: Crashes,
        failures: &mut Vec<(Rank, u32)>,
        report: &mut Report,
    ) {
        report.cases += 1;
        if let Some(unreached) = self.unreached(failures) {
            report.counter_example = Some(CounterExample {
                processes: self.ring.processes(),
                correctors: self.correctors,
                late: self.late,
                failures: failures.clone(),
                unreached,
            });
        }
        if left == 0 || report.counter_example.is_some() {
            return;
        }
        let most = self.ring.processes() - 1;
        let least = if crashes == Crashes::AtAnyTime {
            0
        } else {
            most
        };
        for rank in from..self.ring.processes() {
            if self.correctors & (1 << rank) == 0 {
                continue;
            }
            for sends in least..=most {
                failures.push((rank, sends));
                self.explore(rank + 1, left - 1, crashes, failures, report);
                failures.pop();
            }
        }
    }

    /// Runs the correction in steps; a live process that was not reached, if any.
    fn unreached(&self, failures: &[(Rank, u32)]) -> Option<Rank> {
        let processes = self.ring.processes() as usize;
        let mut state: [Correction; MAX] = Default::default();
        let mut budget = [u32::MAX; MAX];
        let mut doomed = 0u32;
        for &(rank, sends) in failures {
            budget[rank as usize] = sends;
            doomed |= 1 << rank;
        }
        let mut reached = self.correctors;
        let mut flights: [[Option<(Rank, Rank, Side)>; MAX]; MAX_DELAY] = [[None; MAX]; MAX_DELAY];
        let delay = self.delay as usize;
        let mut waiting = self.late;
        let (mut quiet, mut step) = (0, 0);
        loop {
            let slot = step % delay;
            for (from, to, side) in flights[slot].iter_mut().filter_map(Option::take) {
                reached |= 1 << to;
                state[to as usize].heard(&self.ring, to, from, side);
            }
            quiet += 1;
            for rank in 0..processes {
                if (self.correctors & !waiting) & (1 << rank) == 0 || budget[rank] == 0 {
                    continue;
                }
                if let Some((to, side)) = state[rank].next(&self.ring, rank as Rank) {
                    quiet = 0;
                    budget[rank] -= 1;
                    let helps = self.correctors & (1 << to) == 0;
                    if !(helps && doomed & (1 << rank) != 0) {
                        flights[slot][rank] = Some((rank as Rank, to, side));
                    }
                }
            }
            step += 1;
            if quiet > delay {
                if waiting == 0 {
                    break;
                }
                (waiting, quiet) = (0, 0);
            }
        }
        let missing = !(reached | doomed) & ((1u32 << processes) - 1);
        (missing != 0).then(|| missing.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail_proof(faults: u32) -> CorrectionKind {
        CorrectionKind::FailProof { faults }
    }

    #[test]
    fn fail_proof_survives_one_fault_at_any_time_on_every_ring_up_to_eight() {
        for processes in 1..=8 {
            for delay in [1, 4] {
                let report = check(fail_proof(1), processes, 1, Crashes::AtAnyTime, delay);
                assert_eq!(report.counter_example, None, "{} cases", report.cases);
            }
        }
    }

    #[test]
    fn fail_proof_survives_every_fault_set_up_to_twelve_processes() {
        for processes in 1..=12 {
            let report = check(fail_proof(1), processes, 1, Crashes::AtTheEnd, 1);
            assert_eq!(report.counter_example, None, "{} cases", report.cases);
        }
        for (processes, faults) in [(9, 2), (8, 3)] {
            let report = check(fail_proof(faults), processes, faults, Crashes::AtTheEnd, 1);
            assert_eq!(report.counter_example, None, "{} cases", report.cases);
        }
    }

    #[test]
    fn one_corrector_fewer_is_not_enough() {
        for faults in [1, 2] {
            let found = (2..=10).find_map(|p| {
                check(fail_proof(faults - 1), p, faults, Crashes::AtTheEnd, 1).counter_example
            });
            assert!(
                found.is_some(),
                "{faults} faults survived by a rule for {}",
                faults - 1
            );
        }
    }

    #[test]
    fn checked_correction_survives_late_correctors_without_faults() {
        for processes in 1..=10 {
            let report = check(CorrectionKind::Checked, processes, 0, Crashes::AtTheEnd, 1);
            assert_eq!(report.counter_example, None);
        }
    }
}
