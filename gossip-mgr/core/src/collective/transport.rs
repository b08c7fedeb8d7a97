//! Collectives as calls of an application, over any network that offers [`Transport`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::allreduce::{Allreduce, Contributors, Message};
use super::broadcast::{Broadcast, Kind, Next, Plan};
use super::correction::Side;
use super::topology::Tree;
use super::{CollectiveError, Rank, Time};

/// A way to send datagrams to the other processes. Datagrams may be lost, doubled or reordered.
pub trait Transport {
    /// What can go wrong below.
    type Error;

    /// Time since any fixed moment, in microseconds; never goes back.
    fn now(&self) -> Time;

    /// Sends `datagram` to `to`. An unreachable receiver is not an error.
    ///
    /// # Errors
    /// If nothing can be sent any more.
    fn send(&mut self, to: Rank, datagram: &[u8]) -> Result<(), Self::Error>;

    /// Waits at most for `wait` for a datagram and returns its sender's rank and its contents.
    ///
    /// # Errors
    /// If nothing can be received any more.
    fn receive(&mut self, wait: Duration) -> Result<Option<(Rank, Vec<u8>)>, Self::Error>;
}

/// Why a collective over a transport did not complete.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The parameters do not fit.
    #[error(transparent)]
    Parameters(#[from] CollectiveError),
    /// The transport failed.
    #[error("the transport failed")]
    Transport(#[source] E),
    /// No message came before the time limit.
    #[error("nothing arrived within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// What a process gets out of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The message.
    pub payload: Vec<u8>,
    /// Datagrams that this process sent.
    pub messages: u64,
}

#[derive(Serialize, Deserialize)]
struct BroadcastFrame {
    id: u64,
    kind: u8,
    payload: Vec<u8>,
}

fn kind_to_wire(kind: Kind) -> u8 {
    match kind {
        Kind::Spread => 0,
        Kind::Correct(Side::Left) => 1,
        Kind::Correct(Side::Right) => 2,
    }
}

fn kind_from_wire(kind: u8) -> Option<Kind> {
    match kind {
        0 => Some(Kind::Spread),
        1 => Some(Kind::Correct(Side::Left)),
        2 => Some(Kind::Correct(Side::Right)),
        _ => None,
    }
}

/// Takes part in broadcast number `id` as `rank`. The root gives the `payload`; the others get it.
/// A process stays until nothing was to be sent and nothing arrived for `linger`, so that it serves
/// its part of tree and correction. Plan times are microseconds here.
///
/// # Errors
/// [`CallError::TimedOut`] if a process other than the root has nothing within `limit`.
pub fn broadcast<T: Transport>(
    transport: &mut T,
    plan: &Plan,
    rank: Rank,
    id: u64,
    payload: Option<Vec<u8>>,
    limit: Duration,
    linger: Duration,
) -> Result<Delivered, CallError<T::Error>> {
    let processes = plan.processes();
    if rank >= processes {
        return Err(CollectiveError::Rank { rank, processes }.into());
    }
    let mut process = Broadcast::new(rank, id);
    let mut payload = if rank == 0 { Some(payload.unwrap_or_default()) } else { None };
    let mut seen: Vec<(Rank, u8)> = Vec::new();
    let mut messages = 0;
    let begin = transport.now();
    loop {
        let now = transport.now() - begin;
        let next = process.next(plan, now);
        let wait = match (&payload, next) {
            (Some(payload), Next::Send { to, kind }) => {
                let frame = BroadcastFrame { id, kind: kind_to_wire(kind), payload: payload.clone() };
                let bytes = postcard::to_allocvec(&frame).unwrap_or_default();
                transport.send(to, &bytes).map_err(CallError::Transport)?;
                messages += 1;
                Duration::ZERO
            }
            (_, Next::At(at)) => Duration::from_micros(at.saturating_sub(now)).max(linger),
            (Some(_), _) => linger,
            (None, _) => limit.saturating_sub(Duration::from_micros(now)),
        };
        let idle = wait >= linger && !matches!(next, Next::At(_));
        let received = transport.receive(wait).map_err(CallError::Transport)?;
        let Some((from, bytes)) = received else {
            match payload {
                Some(payload) if idle => return Ok(Delivered { payload, messages }),
                None if transport.now() - begin >= limit.as_micros() as Time => {
                    return Err(CallError::TimedOut(limit));
                }
                _ => continue,
            }
        };
        let Ok(frame) = postcard::from_bytes::<BroadcastFrame>(&bytes) else {
            continue;
        };
        let Some(kind) = kind_from_wire(frame.kind) else {
            continue;
        };
        if frame.id != id || from >= processes || seen.contains(&(from, frame.kind)) {
            continue;
        }
        seen.push((from, frame.kind));
        process.receive(plan, transport.now() - begin, from, kind);
        payload.get_or_insert(frame.payload);
    }
}

/// What a process gets out of an allreduce.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduced<V> {
    /// The result.
    pub value: V,
    /// Whose contributions are in it.
    pub contributors: Contributors,
    /// Datagrams that this process sent.
    pub messages: u64,
}

#[derive(Serialize, Deserialize)]
struct ReduceFrame<V> {
    id: u64,
    kind: u8,
    data: Option<(V, Vec<u64>)>,
}

/// Takes part in allreduce number `id` as `rank` with `value`; see [`Allreduce::new`] for `combine`
/// and `timeout`. Lost datagrams are repaired by the keepalives. A process stays for `timeout` after
/// it has the result, to answer those that lost theirs.
///
/// # Errors
/// [`CallError::TimedOut`] if there is no result within `limit`.
#[allow(clippy::too_many_arguments)]
pub fn allreduce<T, V>(
    transport: &mut T,
    tree: &Tree,
    rank: Rank,
    id: u64,
    value: V,
    combine: fn(&mut V, &V),
    timeout: Duration,
    limit: Duration,
) -> Result<Reduced<V>, CallError<T::Error>>
where
    T: Transport,
    V: Clone + Serialize + for<'de> Deserialize<'de>,
{
    let processes = tree.len();
    if rank >= processes {
        return Err(CollectiveError::Rank { rank, processes }.into());
    }
    let begin = transport.now();
    let micros = timeout.as_micros() as Time;
    let mut process = Allreduce::new(tree, rank, value, combine, micros, 0);
    let mut messages = 0;
    let mut done_at = None;
    loop {
        for (to, message) in process.drain() {
            let (kind, data) = match message {
                Message::Ack => (0, None),
                Message::KeepAlive => (1, None),
                Message::Data(v, c) => (2, Some((v, c.words().to_vec()))),
                Message::Result(v, c) => (3, Some((v, c.words().to_vec()))),
            };
            let frame = ReduceFrame { id, kind, data };
            let bytes = postcard::to_allocvec(&frame).unwrap_or_default();
            transport.send(to, &bytes).map_err(CallError::Transport)?;
            messages += 1;
        }
        let now = transport.now() - begin;
        if process.result().is_some() && done_at.is_none() {
            done_at = Some(now);
        }
        let until = match (done_at, process.next_deadline()) {
            (Some(at), _) => at + micros,
            (None, deadline) => deadline.unwrap_or(now + micros),
        };
        if let (Some(_), Some((value, contributors))) = (done_at, process.result())
            && now >= until
        {
            let (value, contributors) = (value.clone(), contributors.clone());
            return Ok(Reduced { value, contributors, messages });
        }
        if done_at.is_none() && now >= limit.as_micros() as Time {
            return Err(CallError::TimedOut(limit));
        }
        let wait = Duration::from_micros(until.saturating_sub(now));
        match transport.receive(wait).map_err(CallError::Transport)? {
            None => process.tick(tree, transport.now() - begin),
            Some((from, bytes)) => {
                let now = transport.now() - begin;
                if from < processes
                    && let Some(message) = decode_reduce(&bytes, id, processes)
                {
                    process.receive(now, from, message);
                }
                process.tick(tree, now);
            }
        }
    }
}

fn decode_reduce<V>(bytes: &[u8], id: u64, processes: u32) -> Option<Message<V>>
where
    V: for<'de> Deserialize<'de>,
{
    let frame: ReduceFrame<V> = postcard::from_bytes(bytes).ok()?;
    if frame.id != id {
        return None;
    }
    let data = match frame.data {
        Some((value, words)) => Some((value, Contributors::from_words(words, processes)?)),
        None => None,
    };
    match (frame.kind, data) {
        (0, None) => Some(Message::Ack),
        (1, None) => Some(Message::KeepAlive),
        (2, Some((v, c))) => Some(Message::Data(v, c)),
        (3, Some((v, c))) => Some(Message::Result(v, c)),
        _ => None,
    }
}
