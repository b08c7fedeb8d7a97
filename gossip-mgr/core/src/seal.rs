//! Authentication of datagrams by a shared key, with protection against replay.
//!
//! A datagram is version, header, payload and a tag: BLAKE3 keyed with the cluster's key over the
//! receiver's address and all that precedes. The header names the sender, its session (start time,
//! growing) and a counter; a receiver accepts each counter of the newest session once. Contents are
//! not encrypted. A receiver that has just started does not know counters yet: until the sender's
//! next datagram it would take an old one from the same session; the board's own versions make that
//! harmless.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
const TAG: usize = 16;
/// Longest datagram that is sent or accepted, in bytes.
pub const MAX_DATAGRAM: usize = 8_192;

/// The cluster's key.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// Derives the key from secret material of any length.
    pub fn derive(material: &[u8]) -> Self {
        Self(blake3::derive_key("tacet gossip-mgr datagram authentication v1", material))
    }

    /// The key with which the agents of checkpoints know each other: what one protocol says is nothing in another.
    pub fn of_checkpoints(&self) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, b"tacet gossip-mgr checkpoint agents v1").as_bytes()
    }

    /// The key with which a coordinator of checkpoints and those who ask it know each other.
    pub fn of_coordinators(&self) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, b"tacet gossip-mgr checkpoint coordinator v1").as_bytes()
    }

    fn tag(&self, to: SocketAddr, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let to = to.to_string();
        hasher.update(&(to.len() as u64).to_le_bytes()).update(to.as_bytes()).update(body);
        hasher.finalize()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    sender: SocketAddr,
    session: u64,
    counter: u64,
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejected {
    /// Shorter than any genuine one, or not decodable although its tag is right.
    #[error("malformed")]
    Malformed,
    /// Longer than [`MAX_DATAGRAM`].
    #[error("oversized")]
    Oversized,
    /// Not this version of the protocol.
    #[error("unknown protocol version")]
    Version,
    /// The tag is wrong: another key, another receiver, or altered.
    #[error("not authentic")]
    NotAuthentic,
    /// Seen before, or from an earlier session of the sender.
    #[error("replayed")]
    Replayed,
}

/// Seals the datagrams of one node.
#[derive(Debug)]
pub struct Sealer {
    key: Key,
    me: SocketAddr,
    session: u64,
    counter: u64,
}

impl Sealer {
    /// `session` must grow from start to start of the node.
    pub fn new(key: Key, me: SocketAddr, session: u64) -> Self {
        Self { key, me, session, counter: 0 }
    }

    /// A datagram with `payload` for `to`.
    pub fn seal(&mut self, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let header = Header { sender: self.me, session: self.session, counter: self.counter };
        let header = postcard::to_allocvec(&header).unwrap_or_default();
        let mut body = Vec::with_capacity(1 + header.len() + payload.len() + TAG);
        body.push(VERSION);
        body.extend_from_slice(&header);
        body.extend_from_slice(payload);
        let tag = self.key.tag(to, &body);
        body.extend_from_slice(&tag.as_bytes()[..TAG]);
        body
    }
}

/// The last 128 counters of a session.
#[derive(Debug)]
struct Seen {
    session: u64,
    highest: u64,
    bits: u128,
}

impl Seen {
    fn accept(&mut self, session: u64, counter: u64) -> bool {
        if session < self.session {
            return false;
        }
        if session > self.session {
            *self = Self { session, highest: counter, bits: 1 };
            return true;
        }
        if counter > self.highest {
            let shift = counter - self.highest;
            self.bits = if shift < 128 { self.bits << shift | 1 } else { 1 };
            self.highest = counter;
            return true;
        }
        let back = self.highest - counter;
        if back >= 128 || self.bits & 1 << back != 0 {
            return false;
        }
        self.bits |= 1 << back;
        true
    }
}

/// Checks the datagrams that one node receives.
#[derive(Debug)]
pub struct Opener {
    key: Key,
    me: SocketAddr,
    seen: HashMap<SocketAddr, Seen>,
}

impl Opener {
    /// For the node whose peers send to `me`.
    pub fn new(key: Key, me: SocketAddr) -> Self {
        Self { key, me, seen: HashMap::new() }
    }

    /// The sender and the payload of a genuine datagram.
    ///
    /// # Errors
    /// [`Rejected`]; nothing was changed then.
    pub fn open<'a>(&mut self, datagram: &'a [u8]) -> Result<(SocketAddr, &'a [u8]), Rejected> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Rejected::Oversized);
        }
        let Some((body, tag)) = datagram.split_last_chunk::<TAG>() else {
            return Err(Rejected::Malformed);
        };
        match body.first() {
            None => return Err(Rejected::Malformed),
            Some(&VERSION) => {}
            Some(_) => return Err(Rejected::Version),
        }
        let mut expected = [0; 32];
        expected[..TAG].copy_from_slice(tag);
        let mut genuine = [0; 32];
        genuine[..TAG].copy_from_slice(&self.key.tag(self.me, body).as_bytes()[..TAG]);
        // Comparison of hashes takes the same time wherever they differ.
        if blake3::Hash::from_bytes(genuine) != blake3::Hash::from_bytes(expected) {
            return Err(Rejected::NotAuthentic);
        }
        let (header, payload) = postcard::take_from_bytes::<Header>(&body[1..]).map_err(|_| Rejected::Malformed)?;
        let seen = self.seen.entry(header.sender).or_insert(Seen { session: 0, highest: 0, bits: 0 });
        if !seen.accept(header.session, header.counter) {
            return Err(Rejected::Replayed);
        }
        Ok((header.sender, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn pair() -> (Sealer, Opener) {
        let key = Key::derive(b"secret");
        (Sealer::new(key.clone(), addr(1), 5), Opener::new(key, addr(2)))
    }

    #[test]
    fn a_genuine_datagram_is_opened_once() {
        let (mut sealer, mut opener) = pair();
        let datagram = sealer.seal(addr(2), b"hello");
        assert_eq!(opener.open(&datagram), Ok((addr(1), b"hello".as_slice())));
        assert_eq!(opener.open(&datagram), Err(Rejected::Replayed));
    }

    #[test]
    fn reordering_is_no_replay() {
        let (mut sealer, mut opener) = pair();
        let datagrams: Vec<_> = (0..100u8).map(|i| sealer.seal(addr(2), &[i])).collect();
        for datagram in datagrams.iter().rev() {
            assert!(opener.open(datagram).is_ok());
        }
        for datagram in &datagrams {
            assert_eq!(opener.open(datagram), Err(Rejected::Replayed));
        }
    }

    #[test]
    fn an_earlier_session_is_a_replay() {
        let (mut old, mut opener) = pair();
        let mut new = Sealer::new(Key::derive(b"secret"), addr(1), 6);
        assert!(opener.open(&new.seal(addr(2), b"new")).is_ok());
        assert_eq!(opener.open(&old.seal(addr(2), b"old")), Err(Rejected::Replayed));
    }

    #[test]
    fn another_key_and_another_receiver_are_refused() {
        let (mut sealer, mut opener) = pair();
        let mut stranger = Sealer::new(Key::derive(b"other"), addr(1), 5);
        let wrong = [stranger.seal(addr(2), b"x"), sealer.seal(addr(3), b"x")];
        for datagram in wrong {
            assert_eq!(opener.open(&datagram), Err(Rejected::NotAuthentic));
        }
    }

    proptest! {
        #[test]
        fn garbage_and_altered_datagrams_are_refused(
            garbage in proptest::collection::vec(any::<u8>(), 0..9_000),
            flip in any::<proptest::sample::Index>(),
        ) {
            let (mut sealer, mut opener) = pair();
            prop_assert!(opener.open(&garbage).is_err());
            let mut datagram = sealer.seal(addr(2), b"payload");
            let at = flip.index(datagram.len());
            datagram[at] ^= 1;
            prop_assert!(opener.open(&datagram).is_err());
        }
    }
}
