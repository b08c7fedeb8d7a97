//! A fault-tolerant allreduce along a tree: dead processes are found by time-outs and gone round, so
//! that the delay grows with the longest chain of dead processes in a row and not with P.
//!
//! - Every process sends its partial result (DATA) to its parent once all its children have sent
//!   theirs or are known dead. The root's result travels back along the ways that DATA took.
//! - A process that waits tells its upper neighbour so (KEEPALIVE, answered by ACK), first after a
//!   third of the time-out. Silence for a whole time-out means death, in both directions: a parent
//!   that has lost a child expects that child's children instead, a child that has lost its parent
//!   turns to the next live process on its list (see [`Ancestors`]).
//! - Each partial result says whose contributions are in it, so none is counted twice. What comes
//!   after the own partial result is out goes up as it is, and is kept in case the upper neighbour
//!   dies: added to what went up before, it could be refused as a whole.
//! - Who takes over a dead process's children asks each whether it has the result already. A result
//!   travels down from the root without a gap, so if the root dies while it hands the result out and
//!   any live process has it, then its successor hears of it and hands out the same. All live
//!   processes end with the same result, whenever whoever dies, if messages of a dead process do not
//!   arrive later than a time-out after its death.
//! - Lost messages: who waits repeats what it has to say every third of the time-out.

use super::topology::Tree;
use super::{Rank, Time};

/// Whose contributions are in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contributors(Vec<u64>);

impl Contributors {
    /// Just `rank`, of `processes`.
    pub fn only(rank: Rank, processes: u32) -> Self {
        let mut words = vec![0; (processes as usize).div_ceil(64)];
        words[rank as usize / 64] |= 1 << (rank % 64);
        Self(words)
    }

    /// Rebuilds the set from its words; `None` if the length does not fit `processes`.
    pub fn from_words(words: Vec<u64>, processes: u32) -> Option<Self> {
        (words.len() == (processes as usize).div_ceil(64)).then_some(Self(words))
    }

    /// The set as bits, rank 0 lowest.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// Whether `rank` is in.
    pub fn contains(&self, rank: Rank) -> bool {
        self.0.get(rank as usize / 64).is_some_and(|word| word & (1 << (rank % 64)) != 0)
    }

    /// How many are in.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & b == 0)
    }

    fn add(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }
}

/// What processes tell each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<V> {
    /// The sender's partial result.
    Data(V, Contributors),
    /// I heard you and am alive.
    Ack,
    /// I am alive and wait for others.
    KeepAlive,
    /// The result.
    Result(V, Contributors),
}

/// The processes to which one may turn, best first: its ancestors, nearest first, then all lower
/// ranks in increasing order. When all are dead the process itself is the root: the lowest live rank.
#[derive(Clone, Debug)]
struct Ancestors {
    rank: Rank,
    tried: Vec<Rank>,
    above: Option<Rank>,
    low: Rank,
}

impl Ancestors {
    fn next(&mut self, tree: &Tree) -> Option<Rank> {
        if let Some(current) = self.above {
            self.above = tree.parent(current);
            self.tried.push(current);
            return Some(current);
        }
        while self.low < self.rank {
            let candidate = self.low;
            self.low += 1;
            if !self.tried.contains(&candidate) {
                self.tried.push(candidate);
                return Some(candidate);
            }
        }
        None
    }
}

#[derive(Clone, Debug)]
struct Expected {
    rank: Rank,
    deadline: Time,
}

/// One process of an allreduce over values `V`.
#[derive(Clone, Debug)]
pub struct Allreduce<V> {
    rank: Rank,
    timeout: Time,
    combine: fn(&mut V, &V),
    value: V,
    contributors: Contributors,
    waits_for: Vec<Expected>,
    /// Last time at which a process that is not (yet) expected was heard.
    heard: Vec<(Rank, Time)>,
    result_goes_to: Vec<Rank>,
    ancestors: Ancestors,
    /// Whom we report to; none if we are the root.
    target: Option<Rank>,
    target_deadline: Time,
    keepalive_at: Time,
    sent_data: bool,
    /// Partial results that came after our own was sent.
    late: Vec<(V, Contributors)>,
    done: bool,
    outbox: Vec<(Rank, Message<V>)>,
}

impl<V: Clone> Allreduce<V> {
    /// The process `rank` enters at `now` with `value`. `timeout` is the silence after which a
    /// process counts as dead; it must be well above the time of a round trip, and all processes
    /// must enter within it. `combine` must be associative and commutative.
    pub fn new(tree: &Tree, rank: Rank, value: V, combine: fn(&mut V, &V), timeout: Time, now: Time) -> Self {
        let deadline = now + timeout;
        let mut ancestors = Ancestors { rank, tried: Vec::new(), above: tree.parent(rank), low: 0 };
        let target = ancestors.next(tree);
        let mut this = Self {
            rank,
            timeout,
            combine,
            value,
            contributors: Contributors::only(rank, tree.len()),
            waits_for: tree.children(rank).iter().map(|&rank| Expected { rank, deadline }).collect(),
            heard: Vec::new(),
            result_goes_to: Vec::new(),
            ancestors,
            target,
            target_deadline: deadline,
            keepalive_at: now + timeout / 3,
            sent_data: false,
            late: Vec::new(),
            done: false,
            outbox: Vec::new(),
        };
        this.report_if_gathered();
        this
    }

    /// The result and whose contributions are in it, once there is one.
    pub fn result(&self) -> Option<(&V, &Contributors)> {
        self.done.then_some((&self.value, &self.contributors))
    }

    /// The value so far: the own one, with those that have come.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Takes the messages to send.
    pub fn drain(&mut self) -> Vec<(Rank, Message<V>)> {
        std::mem::take(&mut self.outbox)
    }

    /// When [`Allreduce::tick`] is to be called next; none once the result is there.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.done {
            return None;
        }
        let link = self.target.map(|_| self.target_deadline.min(self.keepalive_at));
        self.waits_for.iter().map(|e| e.deadline).chain(link).min()
    }

    /// Takes a message.
    pub fn receive(&mut self, now: Time, from: Rank, message: Message<V>) {
        if self.target == Some(from) {
            self.target_deadline = now + self.timeout;
        }
        match message {
            Message::Ack => {
                if let Some(expected) = self.waits_for.iter_mut().find(|e| e.rank == from) {
                    expected.deadline = now + self.timeout;
                }
            }
            Message::Data(..) | Message::KeepAlive if self.done => {
                let result = Message::Result(self.value.clone(), self.contributors.clone());
                self.outbox.push((from, result));
            }
            Message::KeepAlive => {
                self.note_alive(now, from);
                self.outbox.push((from, Message::Ack));
            }
            Message::Data(value, contributors) => self.take_data(from, &value, &contributors),
            Message::Result(value, contributors) => {
                if !self.done {
                    self.value = value;
                    self.contributors = contributors;
                    self.finish();
                }
            }
        }
    }

    fn note_alive(&mut self, now: Time, from: Rank) {
        match self.waits_for.iter_mut().find(|e| e.rank == from) {
            Some(expected) => expected.deadline = now + self.timeout,
            None => {
                self.heard.retain(|&(rank, _)| rank != from);
                self.heard.push((from, now));
            }
        }
    }

    fn take_data(&mut self, from: Rank, value: &V, contributors: &Contributors) {
        if !self.result_goes_to.contains(&from) {
            self.result_goes_to.push(from);
        }
        let known = std::iter::once(&self.contributors).chain(self.late.iter().map(|(_, c)| c));
        if known.into_iter().all(|c| c.is_disjoint(contributors)) {
            if self.sent_data {
                self.late.push((value.clone(), contributors.clone()));
                if let Some(target) = self.target {
                    let data = Message::Data(value.clone(), contributors.clone());
                    self.outbox.push((target, data));
                }
            } else {
                (self.combine)(&mut self.value, value);
                self.contributors.add(contributors);
            }
        }
        self.waits_for.retain(|e| e.rank != from && !contributors.contains(e.rank));
        self.outbox.push((from, Message::Ack));
        self.report_if_gathered();
    }

    /// `rank` is known to be dead: the next [`Allreduce::tick`] does not wait for its time-out. All that it sent must
    /// have been received by whom it was for.
    pub fn died(&mut self, rank: Rank, now: Time) {
        for expected in self.waits_for.iter_mut().filter(|expected| expected.rank == rank) {
            expected.deadline = now;
        }
        if self.target == Some(rank) {
            self.target_deadline = now;
        }
    }

    /// `rank` is known to live, though it was not heard.
    pub fn lives(&mut self, rank: Rank, now: Time) {
        for expected in self.waits_for.iter_mut().filter(|expected| expected.rank == rank) {
            expected.deadline = now + self.timeout;
        }
        if self.target == Some(rank) {
            self.target_deadline = now + self.timeout;
        }
    }

    /// The processes that are waited for.
    pub fn waits_for(&self) -> impl Iterator<Item = Rank> {
        self.waits_for.iter().map(|expected| expected.rank).chain(self.target)
    }

    /// Acts on what is due at `now`.
    pub fn tick(&mut self, tree: &Tree, now: Time) {
        if self.done {
            return;
        }
        self.replace_dead_children(tree, now);
        if self.target.is_some() && now >= self.target_deadline {
            self.turn_to_next(tree, now);
        }
        self.report_if_gathered();
        if let Some(target) = self.target
            && now >= self.keepalive_at
            && !self.done
        {
            if self.sent_data {
                self.send_data(target);
            } else {
                self.outbox.push((target, Message::KeepAlive));
            }
            self.keepalive_at = now + self.timeout / 3;
        }
    }

    fn replace_dead_children(&mut self, tree: &Tree, now: Time) {
        let (dead, alive) = std::mem::take(&mut self.waits_for).into_iter().partition(|e| now >= e.deadline);
        self.waits_for = alive;
        for Expected { rank, .. } in dead {
            self.expect_children_of(tree, rank, now);
        }
    }

    fn expect_children_of(&mut self, tree: &Tree, dead: Rank, now: Time) {
        for &rank in tree.children(dead) {
            let known = rank == self.rank
                || self.contributors.contains(rank)
                || self.ancestors.tried.contains(&rank)
                || self.waits_for.iter().any(|e| e.rank == rank);
            if !known {
                let heard = self.heard.iter().find(|&&(r, _)| r == rank).map_or(now, |&(_, at)| at);
                self.waits_for.push(Expected { rank, deadline: heard.max(now) + self.timeout });
                self.outbox.push((rank, Message::KeepAlive));
            }
        }
    }

    fn turn_to_next(&mut self, tree: &Tree, now: Time) {
        self.target = self.ancestors.next(tree);
        self.target_deadline = now + self.timeout;
        match self.target {
            Some(target) if self.sent_data => self.send_data(target),
            Some(_) => self.keepalive_at = now,
            None => {
                for (value, contributors) in std::mem::take(&mut self.late) {
                    (self.combine)(&mut self.value, &value);
                    self.contributors.add(&contributors);
                }
                // All lower ranks are dead: their subtrees are ours now.
                for dead in self.ancestors.tried.clone() {
                    self.expect_children_of(tree, dead, now);
                }
                self.sent_data = false;
            }
        }
    }

    fn report_if_gathered(&mut self) {
        if self.done || self.sent_data || !self.waits_for.is_empty() {
            return;
        }
        match self.target {
            Some(target) => {
                self.send_data(target);
                self.sent_data = true;
            }
            None => self.finish(),
        }
    }

    fn send_data(&mut self, target: Rank) {
        let own = (&self.value, &self.contributors);
        let late = self.late.iter().map(|(value, contributors)| (value, contributors));
        for (value, contributors) in std::iter::once(own).chain(late) {
            let data = Message::Data(value.clone(), contributors.clone());
            self.outbox.push((target, data));
        }
    }

    fn finish(&mut self) {
        self.done = true;
        for to in std::mem::take(&mut self.result_goes_to) {
            let result = Message::Result(self.value.clone(), self.contributors.clone());
            self.outbox.push((to, result));
        }
    }
}
