//! Collectives one after the other over a reliable network of processes that may die.
//!
//! - A collective has a number. What comes for one that is over is answered by what is kept of it; what comes for one that
//!   has not begun is kept.
//! - Each reduction says who took part. From then on the others count as dead: the next schedules are made for the living.
//!   All that live get the same result, so all make the same schedules. These are reused until somebody dies.
//! - A broadcast goes along a tree, or by gossip, with opportunistic correction. Who has nothing after a while, or knows that
//!   its parent is dead, asks all others.
//! - Where it is known at once who lives, as on one machine, nobody need say so: there are no acknowledgements, and a
//!   tree is not corrected.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use gossip_core::collective::allreduce::{Allreduce, Contributors, Message};
use gossip_core::collective::broadcast::{Broadcast, Dissemination, Kind, Next, Phasing, Plan};
use gossip_core::collective::correction::{CorrectionKind, Side};
use gossip_core::collective::topology::{Tree, TreeKind};
use gossip_core::collective::{LogP, Rank, Time};

/// Collectives that are over and may still be asked about.
const KEPT: usize = 8;
/// Longer messages are not sent twice for correction: who lacks one asks.
const LARGE: usize = 16 << 10;
/// How often those that are waited for are looked at, in microseconds.
const LOOK: Time = 1_000;

/// The network.
pub trait Wire {
    /// Microseconds since any fixed moment.
    fn now(&self) -> Time;
    /// Sends to a rank, which may be dead.
    fn send(&mut self, to: Rank, message: Vec<u8>);
    /// A message that has arrived.
    fn receive(&mut self) -> Option<(Rank, Vec<u8>)>;
    /// Whether a rank lives, where that can be known.
    fn is_alive(&self, rank: Rank) -> Option<bool>;
    /// Whether that can be known of all ranks, at once.
    fn knows_all(&self) -> bool;
    /// Nothing is to be done just now.
    fn idle(&mut self);
}

/// Why a collective did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The root died before anybody that lives had its message.
    Root(Rank),
    /// The others took this rank for dead and went on without it.
    Expelled,
    /// The root's message has another length here.
    Length,
}

/// Those that live, and how they talk.
struct Schedule {
    /// The rank of each place.
    ranks: Vec<Rank>,
    tree: Tree,
    small: Plan,
    large: Plan,
}

impl Schedule {
    fn new(ranks: Vec<Rank>, Style { gossip, corrects }: Style) -> Self {
        let logp = LogP { latency: 2, overhead: 1, gap: 1 };
        let n = ranks.len() as u32;
        let tree = Tree::new(TreeKind::Binomial, n, logp).expect("this rank lives");
        let distance = if corrects || gossip { 2.min(n - 1) } else { 0 };
        let correction = match distance {
            0 => CorrectionKind::None,
            _ => CorrectionKind::Opportunistic { distance, optimised: true },
        };
        // Gossip goes on for a time that grows with the depth of a tree.
        let spread = match gossip {
            true => Dissemination::Gossip { until: 2 * Time::from(n.ilog2() + 1) },
            false => Dissemination::Tree(tree.clone()),
        };
        let small = Plan::new(n, spread, correction, Phasing::Overlapped).expect("the distance fits");
        let along_the_tree = Dissemination::Tree(tree.clone());
        let large = Plan::new(n, along_the_tree, CorrectionKind::None, Phasing::Overlapped).expect("as above");
        Self { ranks, tree, small, large }
    }

    fn place(&self, rank: Rank) -> Option<u32> {
        self.ranks.binary_search(&rank).ok().map(|place| place as u32)
    }
}

/// A value with what is done with it.
#[derive(Clone, Debug)]
pub struct Value<C> {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How it is combined with another.
    pub call: C,
}

struct Spreading {
    process: Broadcast,
    root: u32,
    payload: Option<Vec<u8>>,
    length: usize,
    /// Places that asked and were not answered.
    wanted_by: BTreeSet<u32>,
    /// Places that have nothing either.
    lacking: BTreeSet<u32>,
    ask_at: Time,
    asked: bool,
    sends: u64,
}

enum Machine<C> {
    Reduce(Allreduce<Value<C>>),
    Broadcast(Spreading),
}

struct Collective<C> {
    id: u64,
    schedule: Rc<Schedule>,
    machine: Machine<C>,
}

/// A message without its payload: number, kind, and for some who contributed.
struct Frame {
    id: u64,
    kind: u8,
    words: Vec<u64>,
    payload: Vec<u8>,
}

const ACK: u8 = 0;
const KEEP_ALIVE: u8 = 1;
const DATA: u8 = 2;
const RESULT: u8 = 3;
const SPREAD: u8 = 4;
const CORRECT_LEFT: u8 = 5;
const CORRECT_RIGHT: u8 = 6;
const WANT: u8 = 7;
const LACK: u8 = 8;

impl Frame {
    fn encode(id: u64, kind: u8, words: &[u64], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(13 + 8 * words.len() + payload.len());
        bytes.extend(id.to_le_bytes());
        bytes.push(kind);
        bytes.extend((words.len() as u32).to_le_bytes());
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(payload);
        bytes
    }

    fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (id, kind) = (u64::from_le_bytes(*id), *kind);
        let words = rest.get(..8 * count)?.chunks_exact(8);
        let words = words.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
        bytes.drain(..13 + 8 * count);
        Some(Self { id, kind, words, payload: bytes })
    }
}

/// How patient a rank is, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Silence after which a rank of which nothing is known counts as dead.
    pub timeout: Time,
    /// Who has nothing of a broadcast after so long asks.
    pub ask: Time,
}

#[derive(Clone, Copy)]
struct Style {
    gossip: bool,
    corrects: bool,
}

/// One rank's part in all collectives.
pub struct Engine<W, C> {
    wire: W,
    rank: Rank,
    size: u32,
    patience: Patience,
    style: Style,
    combine: fn(&mut Value<C>, &Value<C>),
    schedule: Rc<Schedule>,
    next: u64,
    over: VecDeque<Collective<C>>,
    early: Vec<(Rank, Frame)>,
    contributors: Vec<Rank>,
    looked: Time,
}

impl<W: Wire, C: Clone> Engine<W, C> {
    /// Rank `rank` of `size`.
    pub fn new(
        wire: W,
        rank: Rank,
        size: u32,
        patience: Patience,
        gossip: bool,
        combine: fn(&mut Value<C>, &Value<C>),
    ) -> Self {
        let style = Style { gossip, corrects: !wire.knows_all() };
        let schedule = Rc::new(Schedule::new((0..size).collect(), style));
        Self {
            wire,
            rank,
            size,
            patience,
            style,
            combine,
            schedule,
            next: 0,
            over: VecDeque::new(),
            early: Vec::new(),
            contributors: (0..size).collect(),
            looked: 0,
        }
    }

    /// Who took part in the last reduction.
    pub fn contributors(&self) -> &[Rank] {
        &self.contributors
    }

    /// How many ranks there were at the beginning.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Combines all ranks' values, on all.
    ///
    /// # Errors
    /// [`Failed::Expelled`].
    pub fn allreduce(&mut self, value: Value<C>) -> Result<Vec<u8>, Failed> {
        let schedule = Rc::clone(&self.schedule);
        let place = schedule.place(self.rank).ok_or(Failed::Expelled)?;
        let now = self.wire.now();
        let machine = Allreduce::new(&schedule.tree, place, value, self.combine, self.patience.timeout, now);
        let mut current = self.begin(Machine::Reduce(machine));
        loop {
            self.send_all(&mut current);
            let Machine::Reduce(process) = &current.machine else { unreachable!("it was made above") };
            if let Some((value, contributors)) = process.result() {
                let bytes = value.bytes.clone();
                let took_part: Vec<Rank> =
                    (0..).zip(&schedule.ranks).filter(|(p, _)| contributors.contains(*p)).map(|(_, r)| *r).collect();
                self.end(current);
                return self.note(took_part).map(|()| bytes);
            }
            if !self.take_all(&mut current) {
                self.look(&mut current);
                self.wire.idle();
            }
        }
    }

    /// The root's message, on all.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn broadcast(&mut self, root: Rank, bytes: &mut [u8]) -> Result<(), Failed> {
        let schedule = Rc::clone(&self.schedule);
        let place = schedule.place(self.rank).ok_or(Failed::Expelled)?;
        let Some(root_place) = schedule.place(root) else {
            self.next += 1;
            return Err(Failed::Root(root));
        };
        let n = schedule.ranks.len() as u32;
        let is_root = self.rank == root;
        let process = Broadcast::new((place + n - root_place) % n, self.next);
        let machine = Machine::Broadcast(Spreading {
            process,
            root: root_place,
            payload: is_root.then(|| bytes.to_vec()),
            length: bytes.len(),
            wanted_by: BTreeSet::new(),
            lacking: BTreeSet::new(),
            ask_at: self.wire.now() + self.patience.ask,
            asked: false,
            sends: 0,
        });
        let mut current = self.begin(machine);
        loop {
            self.send_all(&mut current);
            let Machine::Broadcast(spreading) = &current.machine else { unreachable!("it was made above") };
            if let Some(payload) = &spreading.payload {
                let fits = payload.len() == bytes.len();
                if fits {
                    bytes.copy_from_slice(payload);
                }
                self.end(current);
                return if fits { Ok(()) } else { Err(Failed::Length) };
            }
            if !self.take_all(&mut current) {
                if self.nobody_has_it(&current) {
                    self.end(current);
                    return Err(Failed::Root(root));
                }
                self.look(&mut current);
                self.wire.idle();
            }
        }
    }

    /// Answers those that ask about what is over, for so long.
    pub fn linger(&mut self, time: Time) {
        let until = self.wire.now() + time;
        while self.wire.now() < until {
            while let Some((from, bytes)) = self.wire.receive() {
                if let Some(frame) = Frame::decode(bytes) {
                    self.answer(from, frame);
                }
            }
            self.wire.idle();
        }
    }

    fn begin(&mut self, machine: Machine<C>) -> Collective<C> {
        let mut current = Collective { id: self.next, schedule: Rc::clone(&self.schedule), machine };
        self.next += 1;
        // Most often all is over before it is time to look at others.
        self.looked = self.wire.now();
        for (from, frame) in std::mem::take(&mut self.early) {
            if frame.id == current.id {
                self.receive(&mut current, from, frame);
            } else {
                self.early.push((from, frame));
            }
        }
        current
    }

    fn end(&mut self, mut current: Collective<C>) {
        self.send_all(&mut current);
        self.over.push_back(current);
        if self.over.len() > KEPT {
            self.over.pop_front();
        }
    }

    fn note(&mut self, took_part: Vec<Rank>) -> Result<(), Failed> {
        if took_part.len() < self.schedule.ranks.len() {
            self.schedule = Rc::new(Schedule::new(took_part.clone(), self.style));
        }
        self.contributors = took_part;
        if self.contributors.contains(&self.rank) { Ok(()) } else { Err(Failed::Expelled) }
    }

    /// Takes what has arrived; whether there was something. Results come first: what a dead rank still said is heard before
    /// anybody acts upon its death.
    fn take_all(&mut self, current: &mut Collective<C>) -> bool {
        let mut arrived = Vec::new();
        while let Some((from, bytes)) = self.wire.receive() {
            arrived.extend(Frame::decode(bytes).map(|frame| (from, frame)));
        }
        let is_any = !arrived.is_empty();
        arrived.sort_by_key(|(_, frame)| frame.kind != RESULT);
        for (from, frame) in arrived {
            if frame.id == current.id {
                self.receive(current, from, frame);
            } else {
                self.answer(from, frame);
            }
        }
        is_any
    }

    /// What is said about another collective than the present one.
    fn answer(&mut self, from: Rank, frame: Frame) {
        if frame.id >= self.next {
            self.early.push((from, frame));
            return;
        }
        if let Some(at) = self.over.iter().position(|over| over.id == frame.id)
            && let Some(mut over) = self.over.remove(at)
        {
            self.receive(&mut over, from, frame);
            self.send_all(&mut over);
            self.over.insert(at, over);
        }
    }

    fn receive(&mut self, collective: &mut Collective<C>, from: Rank, frame: Frame) {
        let now = self.wire.now();
        let Some(place) = collective.schedule.place(from) else { return };
        match &mut collective.machine {
            Machine::Reduce(process) => {
                let call = process.value().call.clone();
                let with_value = |frame: Frame| {
                    let contributors = Contributors::from_words(frame.words, collective.schedule.ranks.len() as u32)?;
                    Some((Value { bytes: frame.payload, call }, contributors))
                };
                let message = match frame.kind {
                    ACK => Some(Message::Ack),
                    KEEP_ALIVE => Some(Message::KeepAlive),
                    DATA => with_value(frame).map(|(value, contributors)| Message::Data(value, contributors)),
                    RESULT => with_value(frame).map(|(value, contributors)| Message::Result(value, contributors)),
                    _ => None,
                };
                if let Some(message) = message {
                    process.receive(now, place, message);
                }
            }
            Machine::Broadcast(spreading) => {
                let n = collective.schedule.ranks.len() as u32;
                let plan = plan_for(&collective.schedule, spreading.length);
                let kind = match frame.kind {
                    SPREAD => Some(Kind::Spread),
                    CORRECT_LEFT => Some(Kind::Correct(Side::Left)),
                    CORRECT_RIGHT => Some(Kind::Correct(Side::Right)),
                    WANT => {
                        spreading.wanted_by.insert(place);
                        None
                    }
                    LACK => {
                        spreading.lacking.insert(place);
                        None
                    }
                    _ => None,
                };
                if let Some(kind) = kind {
                    spreading.process.receive(plan, spreading.sends, (place + n - spreading.root) % n, kind);
                    spreading.payload.get_or_insert(frame.payload);
                }
            }
        }
    }

    /// Sends all that is to be sent.
    fn send_all(&mut self, collective: &mut Collective<C>) {
        let (id, ranks) = (collective.id, &collective.schedule.ranks);
        match &mut collective.machine {
            Machine::Reduce(process) => {
                for (to, message) in process.drain() {
                    let bytes = match message {
                        Message::Ack if !self.style.corrects => continue,
                        Message::Ack => Frame::encode(id, ACK, &[], &[]),
                        Message::KeepAlive => Frame::encode(id, KEEP_ALIVE, &[], &[]),
                        Message::Data(value, who) => Frame::encode(id, DATA, who.words(), &value.bytes),
                        Message::Result(value, who) => Frame::encode(id, RESULT, who.words(), &value.bytes),
                    };
                    self.wire.send(ranks[to as usize], bytes);
                }
            }
            Machine::Broadcast(spreading) => {
                let n = ranks.len() as u32;
                let plan = plan_for(&collective.schedule, spreading.length);
                let Some(payload) = &spreading.payload else {
                    // Who asks one that has nothing either is told so, and gets it later.
                    for &place in spreading.wanted_by.iter().filter(|place| !spreading.lacking.contains(place)) {
                        self.wire.send(ranks[place as usize], Frame::encode(id, LACK, &[], &[]));
                    }
                    spreading.lacking.extend(&spreading.wanted_by);
                    return;
                };
                for place in std::mem::take(&mut spreading.wanted_by) {
                    self.wire.send(ranks[place as usize], Frame::encode(id, SPREAD, &[], payload));
                }
                loop {
                    // Time is counted in messages: gossip ends after as many, and nothing else depends on it.
                    match spreading.process.next(plan, spreading.sends) {
                        Next::Send { to, kind } => {
                            let kind = match kind {
                                Kind::Spread => SPREAD,
                                Kind::Correct(Side::Left) => CORRECT_LEFT,
                                Kind::Correct(Side::Right) => CORRECT_RIGHT,
                            };
                            let to = ranks[((to + spreading.root) % n) as usize];
                            self.wire.send(to, Frame::encode(id, kind, &[], payload));
                            spreading.sends += 1;
                        }
                        Next::At(at) => spreading.sends = at,
                        Next::Wait => return,
                    }
                }
            }
        }
    }

    /// Looks at those that are waited for, and acts on what is due.
    fn look(&mut self, current: &mut Collective<C>) {
        let now = self.wire.now();
        let ranks = &current.schedule.ranks;
        match &mut current.machine {
            Machine::Reduce(process) => {
                if now >= self.looked + LOOK {
                    self.looked = now;
                    let waited_for: Vec<Rank> = process.waits_for().collect();
                    let mut died = Vec::new();
                    for place in waited_for {
                        match self.wire.is_alive(ranks[place as usize]) {
                            Some(true) => process.lives(place, now),
                            Some(false) => died.push(place),
                            None => {}
                        }
                    }
                    // All that they said is here now, as they said it before they died.
                    if !died.is_empty() {
                        self.take_all(current);
                    }
                    let Machine::Reduce(process) = &mut current.machine else { return };
                    for place in died {
                        process.died(place, now);
                    }
                    process.tick(&current.schedule.tree, now);
                } else if process.next_deadline().is_some_and(|deadline| now >= deadline) {
                    process.tick(&current.schedule.tree, now);
                }
            }
            Machine::Broadcast(spreading) => {
                if spreading.payload.is_none() && !spreading.asked && now >= self.looked + LOOK {
                    self.looked = now;
                    let n = ranks.len() as u32;
                    let own = current.schedule.place(self.rank).unwrap_or(0);
                    let parent = current.schedule.tree.parent((own + n - spreading.root) % n);
                    let parent = parent.map(|parent| ranks[((parent + spreading.root) % n) as usize]);
                    if parent.is_some_and(|parent| self.wire.is_alive(parent) == Some(false)) {
                        spreading.ask_at = now;
                    }
                }
                if spreading.payload.is_none() && now >= spreading.ask_at {
                    spreading.asked = true;
                    spreading.ask_at = now + self.patience.ask;
                    for &rank in ranks.iter().filter(|&&rank| rank != self.rank) {
                        self.wire.send(rank, Frame::encode(current.id, WANT, &[], &[]));
                    }
                }
            }
        }
    }

    /// Whether a broadcast's root is dead and no other has anything.
    fn nobody_has_it(&self, current: &Collective<C>) -> bool {
        let Machine::Broadcast(spreading) = &current.machine else { return false };
        let ranks = &current.schedule.ranks;
        let is_dead = |place: u32| self.wire.is_alive(ranks[place as usize]) == Some(false);
        // Most often the first question is answered with no.
        let others = || (0..ranks.len() as u32).filter(|&place| ranks[place as usize] != self.rank);
        !spreading.lacking.is_empty()
            && others().all(|place| (place != spreading.root && spreading.lacking.contains(&place)) || is_dead(place))
            || (others().all(is_dead) && self.rank != ranks[spreading.root as usize])
    }
}

fn plan_for(schedule: &Schedule, length: usize) -> &Plan {
    if length > LARGE { &schedule.large } else { &schedule.small }
}
