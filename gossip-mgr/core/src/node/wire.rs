//! What nodes say to each other, inside a sealed datagram.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::board::{Micros, Notice};
use crate::report::Report;

/// A suspicion as it is passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Who is suspected.
    pub node: SocketAddr,
    /// How long there has been no evidence of its life.
    pub silence: Micros,
}

/// A message between two nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Packet {
    /// SWIM's own, opaque here.
    Swim(Vec<u8>),
    /// Part of the sender's window of the board.
    Push {
        /// To be answered by [`Packet::Ack`] if not 0.
        token: u64,
        /// Entries.
        notices: Vec<Notice<SocketAddr, Report>>,
        /// Whom the sender suspects.
        suspicions: Vec<Suspicion>,
    },
    /// Are you alive? To be answered by [`Packet::Ack`].
    Ping {
        /// Comes back in the answer.
        token: u64,
        /// The receiver is suspected by the sender.
        suspected: bool,
    },
    /// I am.
    Ack {
        /// From the question.
        token: u64,
    },
    /// Please ask `node` whether it is alive.
    AskFor {
        /// Whom to ask.
        node: SocketAddr,
    },
    /// `node` answered me `ago` microseconds ago.
    Vouch {
        /// Who answered.
        node: SocketAddr,
        /// How long ago.
        ago: Micros,
    },
}

impl Packet {
    /// The bytes of this packet.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// The packet in `bytes`; none if they are no packet or more than one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((packet, [])) => Some(packet),
            _ => None,
        }
    }
}

/// The packets of a push, each of at most about `payload` bytes. Suspicions go with the first.
pub fn pushes(
    notices: impl Iterator<Item = Notice<SocketAddr, Report>>,
    suspicions: Vec<Suspicion>,
    payload: usize,
) -> Vec<Packet> {
    let mut room = payload.saturating_sub(64 + 32 * suspicions.len());
    let mut packets = vec![(Vec::new(), suspicions)];
    for notice in notices {
        let size = postcard::experimental::serialized_size(&notice).unwrap_or(0);
        if let Some((part, _)) = packets.last_mut().filter(|(part, _)| size <= room || part.is_empty()) {
            part.push(notice);
            room = room.saturating_sub(size);
        } else {
            packets.push((vec![notice], Vec::new()));
            room = (payload - 64).saturating_sub(size);
        }
    }
    let packet = |(notices, suspicions)| Packet::Push { token: 0, notices, suspicions };
    packets.into_iter().map(packet).collect()
}
