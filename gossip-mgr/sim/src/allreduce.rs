//! The fault-tolerant allreduce under LogP: who gets which sum, when, for how many messages.

use std::collections::BTreeMap;

use gossip_core::collective::allreduce::{Allreduce, Message};
use gossip_core::collective::topology::Tree;
use gossip_core::collective::{LogP, Rank, Time};

use crate::faults::Faults;

/// What came of an allreduce in which rank r contributes r + 1.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// P.
    pub processes: u32,
    /// When the last live process had its result.
    pub latency: Time,
    /// Messages sent.
    pub messages: u64,
    /// Live processes without a result when nothing was left to happen.
    pub without_result: u32,
    /// Live processes whose contribution is missing in some live process's result.
    pub left_out: u32,
    /// Different results among live processes: more than 1 is disagreement.
    pub results: u32,
    /// Results that are not the sum of their contributors' values: never, if the code is right.
    pub wrong: u32,
}

enum Event {
    Deliver(Rank, Rank, Message<u64>),
    Tick(Rank),
}

/// Runs one allreduce to its end, at most until `limit`.
pub fn run(tree: &Tree, logp: LogP, faults: &Faults, timeout: Time, limit: Time) -> Outcome {
    let count = tree.len();
    let mut events: BTreeMap<(Time, u64), Event> = BTreeMap::new();
    let mut sequence = 0;
    let mut processes: Vec<Allreduce<u64>> =
        (0..count).map(|r| Allreduce::new(tree, r, u64::from(r) + 1, |a, b| *a += b, timeout, 0)).collect();
    let mut send_free = vec![0; count as usize];
    let mut recv_free = vec![0; count as usize];
    let mut tick_at = vec![Time::MAX; count as usize];
    let (mut messages, mut latency) = (0, 0);
    let mut done = vec![false; count as usize];

    let mut after =
        |now: Time, rank: Rank, processes: &mut Vec<Allreduce<u64>>, events: &mut BTreeMap<(Time, u64), Event>| {
            let process = &mut processes[rank as usize];
            for (to, message) in process.drain() {
                let start = now.max(send_free[rank as usize]);
                if faults.is_dead(rank, start) {
                    continue;
                }
                send_free[rank as usize] = start + logp.period();
                messages += 1;
                let begin = (start + logp.overhead + logp.latency).max(recv_free[to as usize]);
                recv_free[to as usize] = begin + logp.period();
                sequence += 1;
                events.insert((begin + logp.overhead, sequence), Event::Deliver(rank, to, message));
            }
            if process.result().is_some() && !done[rank as usize] {
                done[rank as usize] = true;
                if faults.survives(rank) {
                    latency = latency.max(now);
                }
            }
            if let Some(at) = process.next_deadline()
                && tick_at[rank as usize] != at
            {
                tick_at[rank as usize] = at;
                sequence += 1;
                events.insert((at.max(now + 1), sequence), Event::Tick(rank));
            }
        };

    for rank in 0..count {
        if !faults.is_dead(rank, 0) {
            after(0, rank, &mut processes, &mut events);
        }
    }
    while let Some(((now, _), event)) = events.pop_first() {
        if now > limit {
            break;
        }
        let rank = match event {
            Event::Deliver(_, to, _) if faults.is_dead(to, now) => continue,
            Event::Tick(rank) if faults.is_dead(rank, now) => continue,
            Event::Deliver(from, to, message) => {
                processes[to as usize].receive(now, from, message);
                to
            }
            Event::Tick(rank) => {
                processes[rank as usize].tick(tree, now);
                rank
            }
        };
        after(now, rank, &mut processes, &mut events);
    }

    let live: Vec<Rank> = (0..count).filter(|&r| faults.survives(r)).collect();
    let results: Vec<_> = live.iter().filter_map(|&r| processes[r as usize].result()).collect();
    let sum_of = |c: &gossip_core::collective::allreduce::Contributors| {
        (0..count).filter(|&r| c.contains(r)).map(|r| u64::from(r) + 1).sum::<u64>()
    };
    Outcome {
        processes: count,
        latency,
        messages,
        without_result: (live.len() - results.len()) as u32,
        results: results.iter().map(|(_, c)| c.words()).collect::<std::collections::BTreeSet<_>>().len() as u32,
        left_out: live.iter().filter(|&&r| results.iter().any(|(_, c)| !c.contains(r))).count() as u32,
        wrong: results.iter().filter(|(v, c)| **v != sum_of(c)).count() as u32,
    }
}
