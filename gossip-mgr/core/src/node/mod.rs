//! One node: membership by SWIM (foca), the board, and failure detection, put together.
//!
//! SWIM spreads who joins, leaves, is down and came back. Its own probing is switched off: a suspect
//! must learn of its suspicion by gossip there, and with a fifth of the nodes stalling it did not
//! always in time. The detector probes and decides instead, and tells SWIM, which spreads the
//! verdict. A push of the board is at the same time a probe: it asks for an answer.

mod swim;
pub mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::ops::Range;
use std::time::Duration;

use foca::{Foca, OwnedNotification, PostcardCodec};

use crate::board::{Board, Micros};
use crate::colony;
use crate::detector::{Action, Detector, Explanation, Tuning, Verdict};
use crate::report::Report;
use crate::rng::Rng;
pub use swim::Member;
use swim::{Outlet, Timers};
use wire::{Packet, Suspicion};

/// How a node behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Time between two pushes.
    pub gossip_interval: Micros,
    /// Entries up to this many intervals old are passed on.
    pub window: u32,
    /// Most nodes in a colony; the board is exchanged within a colony.
    pub colony: u32,
    /// Nodes (the first in the order of addresses) that hear of all colonies.
    pub masters: u32,
    /// Largest payload of one datagram in bytes.
    pub payload: usize,
    /// Failure detection.
    pub detection: Tuning,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gossip_interval: 256_000,
            window: 8,
            colony: 1_024,
            masters: 3,
            payload: 1_300,
            detection: Tuning::default(),
        }
    }
}

/// A hundred years.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// In each of so many ticks a node tells three others of a death that it has just learnt of. Told by all
/// who learn of it, that misses a node with a probability of e^-9, and SWIM's periodic gossip is left for it.
const HURRIED_TICKS: u32 = 3;

/// What a node wants from its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this packet.
    Send(SocketAddr, Packet),
    /// Something happened.
    Event(Event),
}

/// What happened to the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node is a member now.
    Joined(Member),
    /// A node began a new life without having been found dead.
    Restarted(Member),
    /// A node is suspected.
    Suspected(SocketAddr),
    /// A suspicion was unfounded.
    Cleared(SocketAddr),
    /// This node's detector declared a node dead.
    Died(SocketAddr),
    /// Another node declared it dead, or it left.
    Gone(SocketAddr),
    /// A node that was declared dead is alive.
    Revived(SocketAddr),
    /// A node has been dead for so long that nothing is kept of it.
    Forgotten(SocketAddr),
    /// The others took this node for dead; it rejoined under a new incarnation.
    Rejoined(u64),
}

/// One node.
pub struct Node {
    settings: Settings,
    me: Member,
    foca: Foca<Member, PostcardCodec, Rng, foca::NoCustomBroadcast>,
    timers: Timers,
    board: Board<SocketAddr, Report>,
    detector: Detector<SocketAddr>,
    members: BTreeMap<SocketAddr, Member>,
    rng: Rng,
    report: Report,
    urgent: bool,
    next_push: Micros,
    /// Ticks in which SWIM gossips without waiting for its period, because a node went down.
    hurry: u32,
    /// No unasked-for push before this time.
    quiet_until: Micros,
    token: u64,
    /// Pings on behalf of others: who asked about whom.
    relayed: BTreeMap<u64, (SocketAddr, SocketAddr, Micros)>,
    outputs: Vec<Output>,
}

impl Node {
    /// A node that is alone until [`Node::join`] or until somebody joins it.
    pub fn new(settings: Settings, me: Member, seed: u64, now: Micros) -> Self {
        let mut rng = Rng::new(seed, 1);
        let detection = settings.detection;
        let period = Duration::from_micros(detection.period);
        let five = NonZeroUsize::MIN.saturating_add(4);
        let often = |every, members| Some(foca::PeriodicParams { frequency: period * every, num_members: members });
        let config = foca::Config {
            probe_period: NEVER,
            probe_rtt: period,
            num_indirect_probes: NonZeroUsize::MIN.saturating_add(2),
            max_transmissions: NonZeroU8::MIN.saturating_add(9),
            suspect_to_down_after: NEVER,
            remove_down_after: Some(period * detection.forget),
            max_packet_size: NonZeroUsize::MIN.saturating_add(settings.payload - 65),
            notify_down_members: true,
            periodic_announce: often(30, NonZeroUsize::MIN),
            periodic_announce_to_down_members: often(10, NonZeroUsize::MIN),
            periodic_gossip: often(1, five.min(NonZeroUsize::MIN.saturating_add(2))),
        };
        let foca = Foca::new(me, config, Rng::new(seed, 2), PostcardCodec);
        let window = settings.gossip_interval * u64::from(settings.window);
        let next_push = now + rng.below(settings.gossip_interval);
        Self {
            me,
            foca,
            timers: Timers::default(),
            board: Board::new(me.addr, me.incarnation, window),
            detector: Detector::new(detection),
            members: BTreeMap::new(),
            rng,
            report: Report::default(),
            urgent: false,
            next_push,
            hurry: 0,
            quiet_until: 0,
            token: 0,
            relayed: BTreeMap::new(),
            outputs: Vec::new(),
            settings,
        }
    }

    /// Replaces what this node reports. A change of health is urgent.
    pub fn set_report(&mut self, report: Report) {
        self.urgent |= report.health != self.report.health;
        self.report = report;
    }

    /// Asks the nodes at `seeds` to let this one in.
    pub fn join(&mut self, seeds: &[SocketAddr], now: Micros) {
        let me = self.me.addr;
        for &addr in seeds.iter().filter(|&&addr| addr != me) {
            let seed = Member { addr, incarnation: 0 };
            self.with_foca(now, |foca, outlet| foca.announce(seed, outlet));
        }
    }

    /// Tells the others that this node leaves.
    pub fn leave(&mut self, now: Micros) {
        self.with_foca(now, |foca, outlet| foca.leave_cluster(outlet));
    }

    /// Takes what the driver is to do.
    pub fn drain(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The longest time between two calls of [`Node::tick`].
    pub fn tick_interval(&self) -> Micros {
        (self.settings.detection.period / 8).min(self.settings.gossip_interval / 2)
    }

    /// Takes a packet from `from`.
    pub fn receive(&mut self, now: Micros, from: SocketAddr, packet: Packet) {
        self.evidence(from, now);
        match packet {
            Packet::Swim(bytes) => {
                // SWIM's data may be stale or from a stranger; it protects itself.
                self.with_foca(now, |foca, outlet| foca.handle_data(&bytes, outlet));
            }
            Packet::Push { token, notices, suspicions } => {
                if token != 0 {
                    self.send(from, Packet::Ack { token });
                }
                for notice in notices {
                    let (node, age) = (notice.node, notice.age);
                    let stale = self.members.get(&node).is_some_and(|m| notice.incarnation < m.incarnation);
                    if !stale && self.board.merge(now, notice, 0) {
                        self.evidence(node, now.saturating_sub(age));
                    }
                }
                for Suspicion { node, silence } in suspicions {
                    self.hear_of_suspicion(node, from, silence, now);
                }
            }
            Packet::Ping { token, suspected } => {
                self.send(from, Packet::Ack { token });
                if suspected {
                    self.speak_up(now);
                }
            }
            Packet::Ack { token } => {
                self.detector.answered(token, &from);
                if let Some((asker, node, asked_at)) = self.relayed.remove(&token)
                    && node == from
                {
                    // It answered at some moment after it was asked.
                    self.send(asker, Packet::Vouch { node, ago: now.saturating_sub(asked_at) });
                }
            }
            Packet::AskFor { node } => {
                let token = self.next_token();
                self.relayed.insert(token, (from, node, now));
                self.send(node, Packet::Ping { token, suspected: true });
            }
            Packet::Vouch { node, ago } => self.evidence(node, now.saturating_sub(ago)),
        }
    }

    fn hear_of_suspicion(&mut self, node: SocketAddr, by: SocketAddr, silence: Micros, now: Micros) {
        if node == self.me.addr {
            self.speak_up(now);
            return;
        }
        let action = self.detector.hearsay(&node, by, now.saturating_sub(silence), now);
        self.act(action, now);
    }

    /// Shows at once, to more than the one who asked, that this node is alive. Two nodes that
    /// suspect each other must not set each other off without end.
    fn speak_up(&mut self, now: Micros) {
        if now >= self.quiet_until {
            self.quiet_until = now + self.settings.detection.period / 4;
            self.push(now, true);
        }
    }

    /// Acts on what is due.
    pub fn tick(&mut self, now: Micros) {
        while let Some(timer) = self.timers.pop_due(now) {
            self.with_foca(now, |foca, outlet| foca.handle_timer(timer, outlet));
        }
        let actions = self.detector.tick(now);
        self.act(actions, now);
        if self.hurry > 0 {
            self.hurry -= 1;
            self.with_foca(now, |foca, outlet| foca.gossip(outlet));
        }
        let forget_after = 10 * self.settings.detection.period;
        self.relayed.retain(|_, (.., asked_at)| now - *asked_at < forget_after);
        if now >= self.next_push {
            // Keep the beat, but do not catch up on beats that were missed.
            let interval = self.settings.gossip_interval;
            self.next_push = (self.next_push + interval).max(now + interval / 2);
            self.push(now, self.urgent);
            self.urgent = false;
        }
    }

    fn evidence(&mut self, node: SocketAddr, at: Micros) {
        match self.detector.alive(&node, at) {
            Some(Action::Cleared(node)) => self.event(Event::Cleared(node)),
            Some(Action::Revived(node)) => self.event(Event::Revived(node)),
            _ => {}
        }
    }

    fn act(&mut self, actions: impl IntoIterator<Item = Action<SocketAddr>>, now: Micros) {
        for action in actions {
            match action {
                Action::Probe(node) | Action::Ping(node) => {
                    let token = self.next_token();
                    let suspected = action == Action::Ping(node);
                    self.detector.sent(token, node, now);
                    self.send(node, Packet::Ping { token, suspected });
                }
                Action::AskOthers(node) => {
                    for relay in self.choose(3, |addr| addr != node) {
                        self.send(relay, Packet::AskFor { node });
                    }
                }
                Action::Suspected(node) => {
                    self.event(Event::Suspected(node));
                    // The sooner the others confirm or refute, the better.
                    for peer in self.choose(3, |addr| addr != node) {
                        let suspicions = self.suspicions(now);
                        let push = Packet::Push { token: 0, notices: Vec::new(), suspicions };
                        self.send(peer, push);
                    }
                }
                Action::Died(node) => {
                    self.event(Event::Died(node));
                    self.board.remove(&node);
                    if let Some(&member) = self.members.get(&node) {
                        let down = foca::Member::new(member, u16::MAX, foca::State::Down);
                        self.with_foca(now, |foca, outlet| foca.apply_many(std::iter::once(down), true, outlet));
                    }
                }
                Action::Forgotten(node) => self.event(Event::Forgotten(node)),
                Action::Cleared(_) | Action::Revived(_) => {}
            }
        }
    }

    /// Pushes the window to a random node of the colony, sometimes also to a master.
    fn push(&mut self, now: Micros, urgent: bool) {
        self.board.refresh(now, self.report.clone(), urgent);
        let (position, colony) = (self.position(), self.colony());
        let mut targets = Vec::new();
        if colony.len() > 1 {
            let drawn = colony.start + self.rng.below(colony.len() as u64 - 1) as usize;
            targets.extend(self.at(drawn + usize::from(drawn >= position)));
            if urgent {
                targets.extend(self.choose(2, |_| true));
            }
        }
        let (nodes, masters) = (self.members.len() + 1, self.settings.masters as usize);
        if colony.len() < nodes {
            targets.extend(colony::master_to_tell(nodes, masters, &mut self.rng).and_then(|master| self.at(master)));
            if position >= masters {
                // From the time before this node knew of all others.
                let (lowest, highest) = self.colony_ends();
                self.board.retain(|node| (lowest..=highest).contains(node));
            }
        }
        let packets = self.pack(now);
        for target in targets {
            let token = self.next_token();
            self.detector.sent(token, target, now);
            for (i, mut packet) in packets.iter().cloned().enumerate() {
                if let (0, Packet::Push { token: slot, .. }) = (i, &mut packet) {
                    *slot = token;
                }
                self.send(target, packet);
            }
        }
    }

    /// The window in packets that fit a datagram. What a master knows of other colonies it keeps to
    /// itself: passed on, its colony would carry the load of all.
    fn pack(&self, now: Micros) -> Vec<Packet> {
        let (lowest, highest) = self.colony_ends();
        let window = self.board.window(now);
        let own = window.filter(|notice| (lowest..=highest).contains(&notice.node));
        wire::pushes(own, self.suspicions(now), self.settings.payload)
    }

    fn suspicions(&self, now: Micros) -> Vec<Suspicion> {
        self.detector
            .suspects()
            .take(16)
            .map(|(&node, alive_at)| Suspicion { node, silence: now.saturating_sub(alive_at) })
            .collect()
    }

    /// How many nodes come before this one in the order of addresses.
    fn position(&self) -> usize {
        self.members.range(..self.me.addr).count()
    }

    /// The positions of this node's colony, itself included.
    pub fn colony(&self) -> Range<usize> {
        let nodes = self.members.len() + 1;
        colony::around(self.position(), nodes, self.settings.colony as usize)
    }

    /// The other nodes of this node's colony.
    pub fn colony_members(&self) -> impl Iterator<Item = SocketAddr> {
        let (lowest, highest) = self.colony_ends();
        self.members.range(lowest..=highest).map(|(&addr, _)| addr)
    }

    /// The node at a position; none for this one.
    fn at(&self, position: usize) -> Option<SocketAddr> {
        let me = self.position();
        let among_members = position - usize::from(position > me);
        (position != me).then(|| self.members.keys().copied().nth(among_members)).flatten()
    }

    /// The lowest and the highest address of this node's colony.
    fn colony_ends(&self) -> (SocketAddr, SocketAddr) {
        let colony = self.colony();
        let end = |position| self.at(position).unwrap_or(self.me.addr);
        (end(colony.start), end(colony.end - 1))
    }

    /// The nodes that hear of all colonies; none while there is only one.
    pub fn masters(&self) -> Vec<SocketAddr> {
        let nodes = self.members.len() + 1;
        if self.colony().len() == nodes {
            return Vec::new();
        }
        (0..nodes.min(self.settings.masters as usize))
            .map(|position| self.at(position).unwrap_or(self.me.addr))
            .collect()
    }

    fn choose(&mut self, count: usize, fits: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        let mut candidates: Vec<SocketAddr> = self.members.keys().copied().filter(|&addr| fits(addr)).collect();
        self.rng.shuffle(&mut candidates);
        candidates.truncate(count);
        candidates
    }

    fn next_token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    fn send(&mut self, to: SocketAddr, packet: Packet) {
        self.outputs.push(Output::Send(to, packet));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    fn with_foca(
        &mut self,
        now: Micros,
        act: impl FnOnce(
            &mut Foca<Member, PostcardCodec, Rng, foca::NoCustomBroadcast>,
            &mut Outlet,
        ) -> Result<(), foca::Error>,
    ) {
        let mut outlet = Outlet::default();
        // Errors are about single datagrams (malformed, stale, indirect): SWIM goes on without them.
        let _ = act(&mut self.foca, &mut outlet);
        for (to, bytes) in outlet.datagrams {
            self.send(to.addr, Packet::Swim(bytes));
        }
        for (timer, after) in outlet.timers {
            self.timers.push(now + after.as_micros() as Micros, timer);
        }
        for notification in outlet.notifications {
            self.notified(notification, now);
        }
    }

    fn notified(&mut self, notification: OwnedNotification<Member>, now: Micros) {
        match notification {
            OwnedNotification::MemberUp(member) => {
                self.members.insert(member.addr, member);
                self.detector.add(member.addr, now);
                self.event(Event::Joined(member));
            }
            OwnedNotification::Rename(_, member) => {
                // A dead member's new life is announced by MemberUp.
                if let Some(known) = self.members.get_mut(&member.addr) {
                    *known = member;
                    self.detector.add(member.addr, now);
                    self.event(Event::Restarted(member));
                }
            }
            OwnedNotification::MemberDown(member) => {
                self.members.remove(&member.addr);
                self.board.remove(&member.addr);
                self.hurry = HURRIED_TICKS;
                let known =
                    matches!(self.detector.verdict(&member.addr), Some(Verdict::Alive | Verdict::Suspect { .. }));
                if known {
                    self.detector.condemn(&member.addr, now);
                    self.event(Event::Gone(member.addr));
                }
            }
            OwnedNotification::Rejoin(me) => {
                self.me = me;
                self.board.renew(me.incarnation);
                self.event(Event::Rejoined(me.incarnation));
            }
            _ => {}
        }
    }

    /// This node.
    pub fn me(&self) -> Member {
        self.me
    }

    /// The other nodes that are not known to be dead.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The board, this node's own entry included.
    pub fn board(&self) -> &Board<SocketAddr, Report> {
        &self.board
    }

    /// What is thought of a node.
    pub fn verdict(&self, node: SocketAddr) -> Option<&Verdict> {
        self.detector.verdict(&node)
    }

    /// Why it is thought.
    pub fn explain(&self, node: SocketAddr, now: Micros) -> Option<Explanation> {
        self.detector.explain(&node, now)
    }

    /// Lifeguard's local health, 0 (good) to 8.
    pub fn local_health(&self) -> u32 {
        self.detector.health()
    }
}

/// Orders foca's timers by time.
type Queue<T> = BinaryHeap<Reverse<T>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn node(port: u16) -> Node {
        let mut node = Node::new(Settings::default(), Member { addr: addr(port), incarnation: 1 }, 1, 0);
        node.drain();
        node
    }

    fn sent(node: &mut Node) -> Vec<(SocketAddr, Packet)> {
        let sends = node.drain().into_iter().filter_map(|output| match output {
            Output::Send(to, packet) => Some((to, packet)),
            Output::Event(_) => None,
        });
        sends.collect()
    }

    #[test]
    fn who_vouches_for_a_node_tells_how_long_ago_it_asked_it() {
        let (asker, suspect) = (addr(2), addr(3));
        let mut relay = node(1);
        relay.receive(1_000_000, asker, Packet::AskFor { node: suspect });
        let [(to, Packet::Ping { token, suspected: true })] = sent(&mut relay)[..] else { panic!("no ping") };
        assert_eq!(to, suspect);
        relay.receive(1_200_000, suspect, Packet::Ack { token });
        assert_eq!(sent(&mut relay), [(asker, Packet::Vouch { node: suspect, ago: 200_000 })]);
    }
}
