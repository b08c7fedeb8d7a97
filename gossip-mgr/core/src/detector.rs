//! Failure detection: direct evidence, φ-accrual, and Lifeguard's three ideas.
//!
//! - *Evidence of life* is a datagram from the node, or a report of it on the board (its age tells
//!   when the node made it).
//! - A node that leaves a push or ping unanswered is *suspected from the time of that push on* and
//!   pinged, also through others. Only evidence from after that time clears it. It is declared dead
//!   if there is none for the whole suspicion window. A node whose φ exceeds the threshold, or that
//!   another node suspects, is pinged at once; silence or hearsay alone condemn nobody.
//! - Lifeguard (Dadgar, Phillips, Currey 2018): the window shrinks as others suspect independently;
//!   a node that misses answers itself, or notices that it did not run, doubts itself and waits
//!   longer; the suspect is told, so that it can speak up.
//!
//! As the shortest window is longer than the longest stall to be forgiven, a node that stalls that
//! long at most answers the pings that wait in its socket in time.

use std::collections::{BTreeMap, BTreeSet};

use crate::board::Micros;

/// Parameters of detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// The unit in which the others are given.
    pub period: Micros,
    /// Shortest suspicion window, in periods: above the longest stall to be forgiven.
    pub shortest: f64,
    /// Longest suspicion window, without confirmation by others, in periods.
    pub longest: f64,
    /// Confirmations that shorten the window to the shortest.
    pub confirmations: u32,
    /// Suspect a node whose φ is above this.
    pub phi: f64,
    /// How long to wait for the answer to a push.
    pub answer: Micros,
    /// Periods after which a dead node is forgotten.
    pub forget: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            period: 1_000_000,
            shortest: 3.25,
            longest: 6.0,
            confirmations: 3,
            phi: 8.0,
            answer: 250_000,
            forget: 3_600,
        }
    }
}

/// What is thought of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is recent evidence of life.
    Alive,
    /// Something stayed unanswered.
    Suspect {
        /// Evidence must be from after this time.
        since: Micros,
    },
    /// Declared dead.
    Dead {
        /// When.
        at: Micros,
    },
}

/// What the detector wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<K> {
    /// Ask the node whether it is alive.
    Probe(K),
    /// Ask it, telling it that it is suspected.
    Ping(K),
    /// Ask it through others.
    AskOthers(K),
    /// Tell others of a new suspicion.
    Suspected(K),
    /// It spoke up.
    Cleared(K),
    /// It is dead.
    Died(K),
    /// A node that was declared dead is alive after all.
    Revived(K),
    /// It has been dead for so long that nothing is kept of it.
    Forgotten(K),
}

#[derive(Clone, Debug)]
struct Peer<K> {
    verdict: Verdict,
    /// Time of the newest evidence of life.
    alive_at: Micros,
    /// Mean and count of the gaps between pieces of evidence.
    mean_gap: f64,
    gaps: u32,
    confirmers: BTreeSet<K>,
    next_ping: Micros,
    answered: u64,
    missed: u64,
}

impl<K: Clone> Peer<K> {
    /// A ping to a node that is not suspected, not more often than `pause`.
    fn probe(&mut self, node: &K, now: Micros, pause: Micros) -> Option<Action<K>> {
        if self.verdict != Verdict::Alive || now < self.next_ping {
            return None;
        }
        self.next_ping = now + pause;
        Some(Action::Probe(node.clone()))
    }
}

/// What `explain` shows about a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// Time since the newest evidence of life.
    pub silence: Micros,
    /// Mean gap between pieces of evidence, if known.
    pub mean_gap: Option<Micros>,
    /// φ now.
    pub phi: f64,
    /// Nodes that suspect it too.
    pub confirmers: usize,
    /// When it will be declared dead if nothing is heard.
    pub dies_at: Option<Micros>,
    /// Pushes and pings that it answered.
    pub answered: u64,
    /// Pushes and pings that it did not answer in time.
    pub missed: u64,
}

/// The failure detector of one node.
#[derive(Clone, Debug)]
pub struct Detector<K> {
    tuning: Tuning,
    peers: BTreeMap<K, Peer<K>>,
    /// Unanswered pushes and pings: whom, since when, to be answered until.
    waiting: BTreeMap<u64, (K, Micros, Micros)>,
    /// Lifeguard's local health: 0 is healthy, at most 8.
    health: u32,
    last_tick: Option<Micros>,
}

const MAX_HEALTH: u32 = 8;
/// Gaps that φ averages over.
const GAPS: u32 = 200;

impl<K: Ord + Clone> Detector<K> {
    /// A detector that knows nobody.
    pub fn new(tuning: Tuning) -> Self {
        Self { tuning, peers: BTreeMap::new(), waiting: BTreeMap::new(), health: 0, last_tick: None }
    }

    /// A node joined, or began a new life.
    pub fn add(&mut self, node: K, now: Micros) {
        self.peers.insert(
            node,
            Peer {
                verdict: Verdict::Alive,
                alive_at: now,
                mean_gap: 0.0,
                gaps: 0,
                confirmers: BTreeSet::new(),
                next_ping: 0,
                answered: 0,
                missed: 0,
            },
        );
    }

    /// Somebody else's verdict of death is taken over.
    pub fn condemn(&mut self, node: &K, now: Micros) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.verdict = Verdict::Dead { at: now };
            peer.confirmers.clear();
        }
    }

    /// Takes evidence that `node` was alive at `at`.
    pub fn alive(&mut self, node: &K, at: Micros) -> Option<Action<K>> {
        let peer = self.peers.get_mut(node)?;
        if at > peer.alive_at {
            let gap = (at - peer.alive_at) as f64;
            peer.gaps = (peer.gaps + 1).min(GAPS);
            peer.mean_gap += (gap - peer.mean_gap) / f64::from(peer.gaps);
            peer.alive_at = at;
            peer.confirmers.clear();
        }
        let action = match peer.verdict {
            Verdict::Suspect { since } if at > since => Action::Cleared(node.clone()),
            Verdict::Dead { at: died } if at > died => Action::Revived(node.clone()),
            _ => return None,
        };
        peer.verdict = Verdict::Alive;
        Some(action)
    }

    /// A push or ping with number `token` went to `node` at `now`.
    pub fn sent(&mut self, token: u64, node: K, now: Micros) {
        let patience = self.tuning.answer * u64::from(1 + self.health);
        self.waiting.insert(token, (node, now, now + patience));
    }

    /// The answer to `token` came.
    pub fn answered(&mut self, token: u64, from: &K) {
        if self.waiting.get(&token).is_some_and(|(node, ..)| node == from) {
            self.waiting.remove(&token);
            self.health = self.health.saturating_sub(1);
            if let Some(peer) = self.peers.get_mut(from) {
                peer.answered += 1;
            }
        }
    }

    /// `by` suspects `node`; the newest evidence of life that it has is from `alive_at`.
    pub fn hearsay(&mut self, node: &K, by: K, alive_at: Micros, now: Micros) -> Option<Action<K>> {
        let peer = self.peers.get_mut(node)?;
        let known_better = peer.verdict == Verdict::Alive && peer.alive_at > alive_at;
        if known_better || matches!(peer.verdict, Verdict::Dead { .. }) {
            return None;
        }
        peer.confirmers.insert(by);
        peer.probe(node, now, self.tuning.period / 2)
    }

    fn suspect(&mut self, node: &K, since: Micros, now: Micros) -> Vec<Action<K>> {
        let Some(peer) = self.peers.get_mut(node) else {
            return Vec::new();
        };
        if peer.verdict != Verdict::Alive || peer.alive_at > since {
            return Vec::new();
        }
        peer.verdict = Verdict::Suspect { since };
        peer.next_ping = now + self.tuning.period / 2;
        vec![Action::Ping(node.clone()), Action::AskOthers(node.clone()), Action::Suspected(node.clone())]
    }

    /// The window for a suspect with `confirmers`, in microseconds.
    fn window(&self, confirmers: usize) -> Micros {
        let Tuning { period, shortest, longest, confirmations, .. } = self.tuning;
        let share = (f64::from(confirmers.min(confirmations as usize) as u32) + 1.0).ln()
            / (f64::from(confirmations) + 1.0).ln();
        let periods = longest - (longest - shortest) * share;
        (periods * period as f64 * f64::from(1 + self.health.min(2))) as Micros
    }

    /// φ of a silence of `silence` for exponentially distributed gaps: -log10 P(gap > silence).
    fn phi(peer: &Peer<K>, silence: Micros) -> f64 {
        if peer.gaps < 10 || peer.mean_gap <= 0.0 {
            return 0.0;
        }
        silence as f64 / (peer.mean_gap * std::f64::consts::LN_10)
    }

    /// Acts on what is due. Must be called several times a period.
    pub fn tick(&mut self, now: Micros) -> Vec<Action<K>> {
        let mut actions = Vec::new();
        let expected = self.tuning.period / 2;
        if let Some(last) = self.last_tick
            && now - last > expected
        {
            self.forgive(now - last);
        }
        self.last_tick = Some(now);

        let late: Vec<u64> = self.waiting.iter().filter(|(_, w)| w.2 <= now).map(|(&token, _)| token).collect();
        let mut newly_missed = 0;
        for token in late {
            let Some((node, since, _)) = self.waiting.remove(&token) else {
                continue;
            };
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.missed += 1;
                newly_missed += u32::from(peer.verdict == Verdict::Alive);
            }
            actions.extend(self.suspect(&node, since, now));
        }
        // One silent node is its own fault, several at once are rather ours.
        if newly_missed >= 3 {
            self.health = (self.health + 1).min(MAX_HEALTH);
        }

        let nodes: Vec<K> = self.peers.keys().cloned().collect();
        for node in nodes {
            let Some(peer) = self.peers.get(&node) else {
                continue;
            };
            match peer.verdict {
                Verdict::Alive => {
                    let silence = now.saturating_sub(peer.alive_at);
                    let period = self.tuning.period;
                    if Self::phi(peer, silence) > self.tuning.phi
                        && let Some(peer) = self.peers.get_mut(&node)
                    {
                        actions.extend(peer.probe(&node, now, period));
                    }
                }
                Verdict::Suspect { since } => {
                    if now >= since + self.window(peer.confirmers.len()) {
                        self.condemn(&node, now);
                        actions.push(Action::Died(node));
                    } else if now >= peer.next_ping {
                        let period = self.tuning.period;
                        if let Some(peer) = self.peers.get_mut(&node) {
                            peer.next_ping = now + period / 2;
                        }
                        actions.push(Action::Ping(node));
                    }
                }
                Verdict::Dead { at } => {
                    if now >= at + u64::from(self.tuning.forget) * self.tuning.period {
                        self.peers.remove(&node);
                        actions.push(Action::Forgotten(node));
                    }
                }
            }
        }
        actions
    }

    /// We did not run for `gap`: nothing that stayed unanswered meanwhile means anything.
    fn forgive(&mut self, gap: Micros) {
        self.health = (self.health + 1).min(MAX_HEALTH);
        self.waiting.clear();
        for peer in self.peers.values_mut() {
            if let Verdict::Suspect { since } = &mut peer.verdict {
                *since += gap;
            }
        }
    }

    /// What is thought of `node`.
    pub fn verdict(&self, node: &K) -> Option<&Verdict> {
        self.peers.get(node).map(|peer| &peer.verdict)
    }

    /// The suspects with the time of their newest evidence of life.
    pub fn suspects(&self) -> impl Iterator<Item = (&K, Micros)> {
        self.peers
            .iter()
            .filter_map(|(node, peer)| matches!(peer.verdict, Verdict::Suspect { .. }).then_some((node, peer.alive_at)))
    }

    /// Lifeguard's local health, 0 (good) to 8.
    pub fn health(&self) -> u32 {
        self.health
    }

    /// Why `node` is thought of as it is.
    pub fn explain(&self, node: &K, now: Micros) -> Option<Explanation> {
        let peer = self.peers.get(node)?;
        let silence = now.saturating_sub(peer.alive_at);
        let dies_at = match peer.verdict {
            Verdict::Suspect { since } => Some(since + self.window(peer.confirmers.len())),
            _ => None,
        };
        Some(Explanation {
            verdict: peer.verdict.clone(),
            silence,
            mean_gap: (peer.gaps > 0).then_some(peer.mean_gap as Micros),
            phi: Self::phi(peer, silence),
            confirmers: peer.confirmers.len(),
            dies_at,
            answered: peer.answered,
            missed: peer.missed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn detector() -> Detector<u32> {
        let mut detector = Detector::new(Tuning::default());
        detector.add(1, 0);
        detector.tick(0);
        detector
    }

    fn run(detector: &mut Detector<u32>, from: Micros, to: Micros) -> Vec<(Micros, Action<u32>)> {
        (from..=to)
            .step_by(125_000)
            .flat_map(|now| detector.tick(now).into_iter().map(move |action| (now, action)))
            .collect()
    }

    #[test]
    fn an_unanswered_push_leads_to_pings_and_then_to_death() {
        let mut detector = detector();
        detector.sent(9, 1, 0);
        let actions = run(&mut detector, 125_000, 7 * SECOND);
        assert!(actions.contains(&(250_000, Action::Suspected(1))));
        assert!(actions.iter().filter(|(_, a)| *a == Action::Ping(1)).count() > 5);
        assert_eq!(actions.last(), Some(&(6 * SECOND, Action::Died(1))));
    }

    #[test]
    fn confirmations_shorten_the_window() {
        let mut detector = detector();
        detector.sent(9, 1, 0);
        run(&mut detector, 125_000, SECOND);
        for by in [2, 3, 4] {
            detector.hearsay(&1, by, 0, SECOND);
        }
        let actions = run(&mut detector, SECOND, 4 * SECOND);
        assert_eq!(actions.last(), Some(&(3_250_000, Action::Died(1))));
    }

    #[test]
    fn only_evidence_from_after_the_unanswered_push_clears() {
        let mut detector = detector();
        detector.sent(9, 1, 500_000);
        run(&mut detector, 125_000, SECOND);
        assert_eq!(detector.alive(&1, 400_000), None);
        assert_eq!(detector.alive(&1, 600_000), Some(Action::Cleared(1)));
    }

    #[test]
    fn a_stall_of_our_own_blames_nobody() {
        let mut detector = detector();
        detector.sent(9, 1, 0);
        assert_eq!(detector.tick(20 * SECOND), []);
        assert_eq!(detector.verdict(&1), Some(&Verdict::Alive));
        assert_eq!(detector.health(), 1);
    }

    #[test]
    fn improbable_silence_leads_to_a_ping() {
        let mut detector = detector();
        for i in 1..=20 {
            detector.alive(&1, i * 100_000);
            detector.tick(i * 100_000);
        }
        let actions = run(&mut detector, 2_100_000, 5 * SECOND);
        // φ = 8 at 8 ln 10 = 18.4 mean gaps of 0.1 s.
        let (at, action) = &actions[0];
        assert_eq!(*action, Action::Probe(1));
        assert!((3_800_000..4_100_000).contains(at), "{at}");
        assert_eq!(detector.verdict(&1), Some(&Verdict::Alive));
    }

    #[test]
    fn hearsay_older_than_what_we_know_is_ignored() {
        let mut detector = detector();
        detector.alive(&1, 5 * SECOND);
        assert_eq!(detector.hearsay(&1, 2, 4 * SECOND, 5 * SECOND), None);
    }

    #[test]
    fn the_dead_are_forgotten_once_they_have_been_dead_for_long() {
        let mut detector = Detector::new(Tuning { forget: 30, ..Tuning::default() });
        for node in [1, 2, 3] {
            detector.add(node, 0);
        }
        detector.condemn(&1, SECOND);
        let actions = run(&mut detector, 0, 60 * SECOND);
        assert_eq!(actions, [(31 * SECOND, Action::Forgotten(1))]);
        assert_eq!((detector.verdict(&1), detector.verdict(&2)), (None, Some(&Verdict::Alive)));
    }

    #[test]
    fn the_dead_revive_by_newer_evidence_only() {
        let mut detector = detector();
        detector.condemn(&1, SECOND);
        assert_eq!(detector.alive(&1, SECOND), None);
        assert_eq!(detector.alive(&1, SECOND + 1), Some(Action::Revived(1)));
    }
}
