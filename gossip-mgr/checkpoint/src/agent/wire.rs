//! What is said to an agent and by it, over a Unix socket on its node and over TCP between nodes.
//!
//! A message is two lengths, JSON and bytes. Between nodes each message carries a MAC under a key of the connection, which
//! comes from the cluster's key and a random number of each side; so nothing can be made up, replayed or reordered.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{CheckpointId, Job, Level, Name, Object};
use crate::manifest::{Manifest, StripeSet};
use crate::policy::Facts;
use crate::recovery::{Held, Place, Source};
use crate::topology::Host;

/// Longer messages are refused before they are read.
const LONGEST: u32 = 64 << 20;

/// Something to be written in the background.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// A copy of a piece on this node.
    Copy {
        /// Of which.
        manifest: Manifest,
        /// Where it is.
        from: Place,
    },
    /// A copy of a piece on shared storage.
    Share {
        /// Of which.
        manifest: Manifest,
        /// Where it is.
        from: Place,
    },
    /// Parity of a group on this node.
    Parity {
        /// Of which group.
        set: StripeSet,
        /// Which member this node is.
        member: usize,
        /// All members'.
        manifests: Vec<Manifest>,
        /// Where their pieces are.
        pieces: Vec<Place>,
    },
}

/// How work in the background stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// It goes on.
    Running,
    /// All is written.
    Done {
        /// How long it took.
        seconds: f64,
    },
    /// It was given up; why.
    Failed(String),
}

/// How a job's processes ended, as they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ended {
    /// They have not, or they died.
    Not,
    /// It is done.
    Finished,
    /// It made way and is to be started elsewhere.
    MakesWay,
}

/// A request. The first group is answered to other nodes, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// What this node has of a job; of the given checkpoint all bytes are compared with their hashes.
    Held {
        /// Whose.
        job: Job,
        /// Which to read.
        verify: Option<CheckpointId>,
    },
    /// Bytes of an object.
    Read {
        /// Whose.
        job: Job,
        /// Of which checkpoint.
        id: CheckpointId,
        /// Which.
        object: Object,
        /// From where on.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Compare all bytes of an object with their hashes.
    Verify {
        /// Whose.
        job: Job,
        /// Of which checkpoint.
        id: CheckpointId,
        /// Which.
        object: Object,
    },
    /// Remove what is older than `newest` and not to be kept.
    Prune {
        /// Whose.
        job: Job,
        /// Not these.
        keep: BTreeSet<CheckpointId>,
        /// Nor this or newer ones.
        newest: CheckpointId,
    },
    /// Remove all of a job.
    Forget {
        /// Which.
        job: Job,
    },
    /// The jobs of which this node has something.
    Jobs,

    /// Who is there.
    Hello,
    /// [`Ask::Held`] of all nodes and of shared storage.
    AllHeld {
        /// Whose.
        job: Job,
        /// Which to read.
        verify: Option<CheckpointId>,
    },
    /// [`Ask::Prune`] on all nodes and on shared storage.
    PruneAll {
        /// Whose.
        job: Job,
        /// Not these.
        keep: BTreeSet<CheckpointId>,
        /// Nor this or newer ones.
        newest: CheckpointId,
    },
    /// [`Ask::Prune`] on shared storage.
    PruneShared {
        /// Whose.
        job: Job,
        /// Not these.
        keep: BTreeSet<CheckpointId>,
        /// Nor this or newer ones.
        newest: CheckpointId,
    },
    /// [`Ask::Forget`] on all nodes and on shared storage.
    ForgetAll {
        /// Which.
        job: Job,
    },
    /// [`Ask::Jobs`] of all nodes.
    AllJobs,
    /// Which level is due.
    Decide {
        /// Whose.
        job: Job,
        /// What is known.
        facts: Facts,
    },
    /// Whether this node should be left.
    Health,
    /// Write in the background.
    Begin {
        /// Whose.
        job: Job,
        /// Of which checkpoint.
        id: CheckpointId,
        /// At which level.
        level: Level,
        /// What.
        tasks: Vec<Task>,
    },
    /// How what was begun stands.
    Progress {
        /// Whose.
        job: Job,
    },
    /// Make a piece on this node from what there is.
    Restore {
        /// Whose.
        job: Job,
        /// Which.
        manifest: Manifest,
        /// From what.
        source: Source,
    },
    /// A checkpoint is complete at its level, or will not be.
    Finished {
        /// Whose.
        job: Job,
        /// Its level.
        level: Level,
        /// For how many seconds the program waited and it was then written in the background; none if it was given up.
        took_s: Option<(f64, f64)>,
    },
    /// The job's processes begin or end.
    Ending {
        /// Whose.
        job: Job,
        /// Which attempt.
        attempt: u32,
        /// How.
        ended: Ended,
    },
}

/// What a node has of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldAnswer {
    /// Objects.
    pub held: Vec<Held>,
    /// What is there and cannot be used, a line each.
    pub damaged: Vec<String>,
    /// Seconds since 1970 by its clock.
    pub clock: f64,
    /// Why the node should be left.
    pub failing: Option<String>,
    /// How the job's processes last ended, by whom this node heard it from.
    pub ended: Option<(u32, Ended)>,
    /// [`Policy::expected_loss_s`](crate::policy::Policy::expected_loss_s) of this node.
    pub expected_loss_s: Option<(u32, f64)>,
}

/// What all nodes have of a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AllHeldAnswer {
    /// Objects.
    pub held: Vec<Held>,
    /// What is there and cannot be used, a line each.
    pub damaged: Vec<String>,
    /// Nodes that did not answer, and why.
    pub silent: Vec<(Name, String)>,
    /// Nodes that should be left, and why.
    pub failing: Vec<(Name, String)>,
    /// By how many seconds each node's clock is before the asked one's.
    pub clocks: Vec<(Name, f64)>,
    /// How the job's processes last ended.
    pub ended: Option<(u32, Ended)>,
    /// What a failure now would cost on average, by the node that knows of the last attempt.
    pub expected_loss_s: Option<(u32, f64)>,
}

/// A level in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelSettings {
    /// Which.
    pub level: Level,
    /// Members of a group (k + m), for the levels with parity.
    pub group: usize,
    /// How many of a group may be lost (m).
    pub parities: usize,
    /// Seconds between two, where they are fixed.
    pub interval_s: f64,
}

/// To [`Ask::Hello`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The node.
    pub node: Name,
    /// The caller's user number.
    pub owner: u32,
    /// The folder of its store.
    pub store: std::path::PathBuf,
    /// Levels in use, from cheap to safe.
    pub levels: Vec<LevelSettings>,
    /// All nodes.
    pub hosts: Vec<Host>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Held`].
    Held(HeldAnswer),
    /// To [`Ask::Read`]: with bytes.
    Bytes,
    /// It is done.
    Done,
    /// To [`Ask::Jobs`] and [`Ask::AllJobs`].
    Jobs(Vec<Job>),
    /// To [`Ask::Hello`].
    Welcome(Welcome),
    /// To [`Ask::AllHeld`].
    AllHeld(AllHeldAnswer),
    /// To [`Ask::Decide`].
    Decided(Option<Level>),
    /// To [`Ask::Health`]: why this node should be left.
    Health(Option<String>),
    /// To [`Ask::Progress`].
    Progress(Vec<(CheckpointId, Level, Progress)>),
    /// To [`Ask::Begin`]: one of that level is under way.
    Busy,
    /// It failed.
    Failed(String),
}

/// Seconds since 1970.
pub fn clock() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Bytes that nobody can guess.
///
/// # Errors
/// If the system has none.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Which side of a connection one is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Asks.
    Client,
    /// Answers.
    Server,
}

struct Guard {
    key: [u8; 32],
    side: Side,
    sent: u64,
    received: u64,
}

impl Guard {
    fn mac(&self, from: Side, count: u64, message: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[u8::from(from == Side::Client)]).update(&count.to_le_bytes()).update(message);
        hasher.finalize()
    }
}

/// A connection on which messages go both ways.
pub struct Connection<S> {
    stream: S,
    guard: Option<Guard>,
}

impl<S: Read + Write> Connection<S> {
    /// Within a node: the socket's rights are what guards it.
    pub fn plain(stream: S) -> Self {
        Self { stream, guard: None }
    }

    /// Between nodes: both must have the key.
    ///
    /// # Errors
    /// If the other side goes away. That its key is another shows with the first message.
    pub fn keyed(mut stream: S, key: &[u8; 32], side: Side) -> io::Result<Self> {
        let own: [u8; 32] = random()?;
        let mut other = [0; 32];
        stream.write_all(&own)?;
        stream.read_exact(&mut other)?;
        let (client, server) = if side == Side::Client { (own, other) } else { (other, own) };
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(b"gossip-mgr checkpoint agent 1").update(&client).update(&server);
        let guard = Guard { key: hasher.finalize().into(), side, sent: 0, received: 0 };
        Ok(Self { stream, guard: Some(guard) })
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn send(&mut self, message: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut frame = Vec::with_capacity(8 + text.len() + bytes.len() + 32);
        frame.extend((text.len() as u32).to_le_bytes());
        frame.extend((bytes.len() as u32).to_le_bytes());
        frame.extend(text);
        frame.extend(bytes);
        if let Some(guard) = &mut self.guard {
            let mac = guard.mac(guard.side, guard.sent, &frame);
            guard.sent += 1;
            frame.extend(mac.as_bytes());
        }
        self.stream.write_all(&frame)
    }

    /// Receives a message and its bytes.
    ///
    /// # Errors
    /// If the other side is gone, has another key, or talks nonsense.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<u8>)> {
        let mut lengths = [0; 8];
        self.stream.read_exact(&mut lengths)?;
        let length = |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().expect("four bytes"));
        let (text, bytes) = (length(0), length(4));
        if text > LONGEST || bytes > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a message of an agent"));
        }
        let mut frame = lengths.to_vec();
        frame.resize(8 + text as usize + bytes as usize, 0);
        self.stream.read_exact(&mut frame[8..])?;
        if let Some(guard) = &mut self.guard {
            let mut mac = [0; 32];
            self.stream.read_exact(&mut mac)?;
            let from = if guard.side == Side::Client { Side::Server } else { Side::Client };
            // blake3::Hash compares in constant time.
            if guard.mac(from, guard.received, &frame) != blake3::Hash::from(mac) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other side has another key"));
            }
            guard.received += 1;
        }
        let bytes = frame.split_off(8 + text as usize);
        Ok((serde_json::from_slice(&frame[8..])?, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair(keys: [&[u8; 32]; 2]) -> [Connection<UnixStream>; 2] {
        let (a, b) = UnixStream::pair().unwrap();
        let server_key = *keys[1];
        let server = std::thread::spawn(move || Connection::keyed(b, &server_key, Side::Server).unwrap());
        let client = Connection::keyed(a, keys[0], Side::Client).unwrap();
        [client, server.join().unwrap()]
    }

    #[test]
    fn only_who_has_the_key_is_understood() {
        let [mut client, mut server] = pair([&[1; 32], &[1; 32]]);
        client.send(&Ask::Jobs, b"bytes").unwrap();
        let (ask, bytes) = server.receive::<Ask>().unwrap();
        assert!(matches!(ask, Ask::Jobs) && bytes == b"bytes");
        let [mut client, mut server] = pair([&[1; 32], &[2; 32]]);
        client.send(&Ask::Jobs, b"").unwrap();
        assert_eq!(server.receive::<Ask>().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_message_is_not_taken_twice() {
        let (a, b) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut server = Connection::keyed(b, &[1; 32], Side::Server).unwrap();
            (server.receive::<Ask>().is_ok(), server.receive::<Ask>().map_err(|error| error.kind()).err())
        });
        let mut client = Connection::keyed(a, &[1; 32], Side::Client).unwrap();
        client.send(&Ask::Health, b"").unwrap();
        // Sent again with the same count, as a replay would be.
        client.guard.as_mut().unwrap().sent = 0;
        client.send(&Ask::Health, b"").unwrap();
        assert_eq!(server.join().unwrap(), (true, Some(io::ErrorKind::PermissionDenied)));
    }

    #[test]
    fn nonsense_is_refused_before_it_is_read() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut server = Connection::plain(b);
        (&a).write_all(&[0xff; 8]).unwrap();
        assert_eq!(server.receive::<Ask>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
