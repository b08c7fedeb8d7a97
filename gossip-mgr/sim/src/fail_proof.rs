//! Exhaustive check of the fail-proof stop rule on small rings.
//!
//! A case is a ring in which each process either does not have the message or corrects from one of
//! several moments on, each of which comes when everything before has gone quiet. The rule treats all
//! ranks alike and needs no more than one correct corrector, which the root is; so one of all
//! rotations of a case stands for all of them, with the root at any corrector.
//!
//! What a failing process does is chosen by an adversary:
//!
//! - [`Losses::Useful`]: its messages to processes without the message are lost, the others arrive.
//!   Correctors then behave as if nobody failed. So one execution shows, for each process X without
//!   the message, who sends to X; and X is missed by a set of failing processes exactly if all of its
//!   senders are in it. Every fault set of every size up to f is decided by counting senders.
//! - [`Losses::Any`]: any of its messages is lost, whoever they are for. That covers every moment of
//!   failure: after a process has failed, all of its messages are lost. Every fault set and every
//!   choice of losses is executed.

use gossip_core::collective::Rank;
use gossip_core::collective::correction::{Correction, CorrectionKind, Ring, Side};

/// Which messages of failing processes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Those to processes that do not have the message.
    Useful,
    /// Any set of them.
    Any,
}

/// What is to be checked.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The stop rule.
    pub kind: CorrectionKind,
    /// P, 1 to 20.
    pub processes: u32,
    /// Most failing processes.
    pub faults: u32,
    /// What the adversary may do.
    pub losses: Losses,
    /// Moments at which correctors may start, 1 to 7.
    pub starts: u8,
    /// Steps that a message takes, 1 to 8.
    pub delay: u32,
}

/// A case in which a live process was not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterExample {
    /// Of each rank: 0 without the message, otherwise the moment at which it starts to correct.
    pub starts: Vec<u8>,
    /// Who fails.
    pub failing: Vec<Rank>,
    /// A live process that was not reached.
    pub unreached: Rank,
}

/// How much was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Cases, rotations counted once.
    pub cases: u64,
    /// Executions.
    pub executions: u64,
    /// The first failure found, if any.
    pub counter_example: Option<CounterExample>,
}

const MAX: usize = 20;
const MAX_DELAY: usize = 8;

/// Runs `check` to its end or to the first counter-example.
pub fn check(check: &Check) -> Report {
    let mut report = Report::default();
    let Ok(ring) = Ring::new(check.kind, check.processes) else {
        return report;
    };
    necklaces(check.processes as usize, check.starts + 1, &mut |starts| {
        let case = Case::new(ring, starts, check);
        if case.correctors != 0 {
            report.cases += 1;
            case.check(&mut report);
        }
        report.counter_example.is_none()
    });
    report
}

/// Calls `visit` with one of the rotations of every word of `length` letters below `letters`, until
/// it returns false (Fredricksen, Kessler and Maiorana; as in Ruskey, Savage and Wang 1992).
fn necklaces(length: usize, letters: u8, visit: &mut dyn FnMut(&[u8]) -> bool) {
    fn extend(word: &mut [u8], at: usize, period: usize, letters: u8, visit: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if at == word.len() {
            return !(at - 1).is_multiple_of(period) || visit(&word[1..]);
        }
        word[at] = word[at - period];
        if !extend(word, at + 1, period, letters, visit) {
            return false;
        }
        (word[at - period] + 1..letters).all(|letter| {
            word[at] = letter;
            extend(word, at + 1, at, letters, visit)
        })
    }
    extend(&mut vec![0; length + 1], 1, 1, letters, visit);
}

struct Case<'a> {
    ring: Ring,
    starts: &'a [u8],
    correctors: u32,
    faults: u32,
    losses: Losses,
    delay: usize,
}

/// An execution under way.
#[derive(Clone)]
struct Execution {
    state: [Correction; MAX],
    /// Of each process: the processes that sent to it, those whose message was lost left out.
    senders: [u32; MAX],
    /// Messages under way, by the step in which they arrive and by sender.
    flights: [[Option<(Rank, Side)>; MAX]; MAX_DELAY],
    moment: u8,
    step: usize,
    quiet: usize,
    /// The next process to send in this step.
    turn: usize,
}

impl Execution {
    fn new() -> Self {
        Self {
            state: Default::default(),
            senders: [0; MAX],
            flights: [[None; MAX]; MAX_DELAY],
            moment: 1,
            step: 0,
            quiet: 0,
            turn: 0,
        }
    }
}

impl<'a> Case<'a> {
    fn new(ring: Ring, starts: &'a [u8], check: &Check) -> Self {
        let correctors = (0..starts.len()).filter(|&rank| starts[rank] != 0).fold(0, |set, rank| set | 1 << rank);
        let Check { faults, losses, .. } = *check;
        let delay = (check.delay as usize).clamp(1, MAX_DELAY);
        Self { ring, starts, correctors, faults, losses, delay }
    }

    fn check(&self, report: &mut Report) {
        match self.losses {
            Losses::Useful => {
                let mut execution = Execution::new();
                while self.advance(&mut execution, 0).is_some() {}
                report.executions += 1;
                for rank in self.without_message() {
                    let senders = execution.senders[rank as usize];
                    // All senders fail, and one more corrector, the root, does not.
                    if senders.count_ones() <= self.faults && senders != self.correctors {
                        self.found(report, senders, rank);
                    }
                }
            }
            Losses::Any => self.each_fault_set(0, 0, report),
        }
    }

    fn without_message(&self) -> impl Iterator<Item = Rank> + use<'_> {
        (0..self.ring.processes()).filter(|rank| self.correctors & (1 << rank) == 0)
    }

    fn found(&self, report: &mut Report, failing: u32, unreached: Rank) {
        report.counter_example.get_or_insert(CounterExample {
            starts: self.starts.to_vec(),
            failing: (0..self.ring.processes()).filter(|rank| failing & (1 << rank) != 0).collect(),
            unreached,
        });
    }

    /// Tries every set of failing correctors that adds ranks from `from` on to `failing`.
    fn each_fault_set(&self, failing: u32, from: Rank, report: &mut Report) {
        if failing == self.correctors || report.counter_example.is_some() {
            return;
        }
        self.each_loss(Execution::new(), failing, report);
        if failing.count_ones() < self.faults {
            for rank in from..self.ring.processes() {
                if self.correctors & (1 << rank) != 0 {
                    self.each_fault_set(failing | 1 << rank, rank + 1, report);
                }
            }
        }
    }

    /// Goes on with `execution` in every way in which messages can be lost.
    fn each_loss(&self, mut execution: Execution, failing: u32, report: &mut Report) {
        while let Some((from, to, side)) = self.advance(&mut execution, failing) {
            if report.counter_example.is_some() {
                return;
            }
            // Lost here, delivered below. A message that helps is better lost for good.
            if self.correctors & (1 << to) != 0 {
                self.each_loss(execution.clone(), failing, report);
                execution.flights[execution.step % self.delay][from as usize] = Some((to, side));
            }
        }
        report.executions += 1;
        for rank in self.without_message() {
            if execution.senders[rank as usize] == 0 {
                self.found(report, failing, rank);
            }
        }
    }

    /// Goes on until a process in `failing` sends, whose message is the caller's to deliver, or to
    /// the end.
    fn advance(&self, execution: &mut Execution, failing: u32) -> Option<(Rank, Rank, Side)> {
        let processes = self.ring.processes() as usize;
        let last = self.starts.iter().copied().max().unwrap_or(0);
        loop {
            let slot = execution.step % self.delay;
            if execution.turn == 0 {
                for from in 0..processes {
                    if let Some((to, side)) = execution.flights[slot][from].take() {
                        execution.state[to as usize].heard(&self.ring, to, from as Rank, side);
                    }
                }
            }
            while execution.turn < processes {
                let rank = execution.turn;
                execution.turn += 1;
                if self.starts[rank] == 0 || self.starts[rank] > execution.moment {
                    continue;
                }
                let Some((to, side)) = execution.state[rank].next(&self.ring, rank as Rank) else {
                    continue;
                };
                execution.quiet = 0;
                if failing & (1 << rank) != 0 {
                    return Some((rank as Rank, to, side));
                }
                execution.senders[to as usize] |= 1 << rank;
                execution.flights[slot][rank] = Some((to, side));
            }
            (execution.turn, execution.step) = (0, execution.step + 1);
            execution.quiet += 1;
            if execution.quiet > self.delay + 1 {
                if execution.moment >= last {
                    return None;
                }
                (execution.moment, execution.quiet) = (execution.moment + 1, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rule` correctors are waited for less one, `faults` processes fail.
    fn outcome(rule: u32, processes: u32, faults: u32, losses: Losses, delay: u32) -> Report {
        check(&Check { kind: CorrectionKind::FailProof { faults: rule }, processes, faults, losses, starts: 2, delay })
    }

    fn survives(processes: u32, faults: u32, losses: Losses, delay: u32) {
        let report = outcome(faults, processes, faults, losses, delay);
        assert_eq!(report.counter_example, None, "{} cases", report.cases);
        assert!(report.cases > 0);
    }

    #[test]
    fn every_word_has_one_rotation_among_the_necklaces() {
        let mut seen = std::collections::BTreeMap::new();
        necklaces(6, 3, &mut |word| {
            for turn in 0..6 {
                let mut turned = word.to_vec();
                turned.rotate_left(turn);
                *seen.entry(turned).or_insert_with(Vec::new) = word.to_vec();
            }
            true
        });
        assert_eq!(seen.len(), 3usize.pow(6));
        let necklaces: std::collections::BTreeSet<_> = seen.values().collect();
        // (3^6 + 3^3 + 2 * 3^2 + 2 * 3) / 6, by Burnside's lemma.
        assert_eq!(necklaces.len(), 130);
    }

    #[test]
    fn fail_proof_survives_every_fault_set_of_every_size_up_to_twelve_processes() {
        for processes in 1..=12 {
            for faults in 1..processes.max(2) {
                survives(processes, faults, Losses::Useful, 1);
            }
            survives(processes, 2, Losses::Useful, 4);
        }
    }

    #[test]
    fn fail_proof_survives_any_losses_at_any_time() {
        for (faults, largest) in [(1, 10), (2, 7), (3, 5)] {
            for processes in 1..=largest {
                survives(processes, faults, Losses::Any, 1);
            }
        }
        survives(7, 1, Losses::Any, 4);
    }

    #[test]
    fn one_corrector_fewer_is_not_enough_whatever_the_search() {
        for (losses, faults) in
            [(Losses::Useful, 1), (Losses::Useful, 2), (Losses::Useful, 3), (Losses::Any, 1), (Losses::Any, 2)]
        {
            let found = (2..=14).find_map(|p| outcome(faults - 1, p, faults, losses, 1).counter_example);
            assert!(found.is_some(), "{faults} faults survived by a rule for one fewer");
        }
    }

    #[test]
    fn checked_correction_survives_late_correctors_without_faults() {
        for processes in 1..=12 {
            let report = check(&Check {
                kind: CorrectionKind::Checked,
                processes,
                faults: 0,
                losses: Losses::Useful,
                starts: 3,
                delay: 1,
            });
            assert_eq!(report.counter_example, None);
        }
    }
}
