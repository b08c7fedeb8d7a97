//! How foca meets the rest: identities, timers, and a runtime that collects what foca wants.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Identity, Notification, OwnedNotification, Runtime, Timer};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::board::Micros;

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Grows with each start and each rejoin.
    pub incarnation: u64,
}

impl Identity for Member {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self { incarnation: self.incarnation + 1, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.incarnation > adversary.incarnation
    }
}

/// What foca asked for during one call.
#[derive(Default)]
pub(super) struct Outlet {
    pub(super) datagrams: Vec<(Member, Vec<u8>)>,
    pub(super) timers: Vec<(Timer<Member>, Duration)>,
    pub(super) notifications: Vec<OwnedNotification<Member>>,
}

impl Runtime<Member> for Outlet {
    fn notify(&mut self, notification: Notification<'_, Member>) {
        self.notifications.push(notification.to_owned());
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        self.datagrams.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Member>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// Foca's timers by time; of equal times in the order of their submission.
#[derive(Default)]
pub(super) struct Timers {
    queue: Queue<Due>,
    submitted: u64,
}

struct Due {
    at: Micros,
    order: u64,
    timer: Timer<Member>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Timers {
    pub(super) fn push(&mut self, at: Micros, timer: Timer<Member>) {
        self.submitted += 1;
        self.queue.push(Reverse(Due { at, order: self.submitted, timer }));
    }

    pub(super) fn pop_due(&mut self, now: Micros) -> Option<Timer<Member>> {
        if self.queue.peek()?.0.at > now {
            return None;
        }
        self.queue.pop().map(|Reverse(due)| due.timer)
    }
}
