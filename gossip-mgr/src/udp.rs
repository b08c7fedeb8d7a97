//! Collectives over UDP between processes: [`gossip_core::collective::transport`] on real sockets.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use gossip_core::collective::transport::Transport;
use gossip_core::collective::{Rank, Time};
use gossip_core::seal::{Key, MAX_DATAGRAM, Opener, Sealer};

/// One process's socket and the addresses of all processes by rank. Datagrams are sealed with the
/// cluster's key; others are dropped.
#[derive(Debug)]
pub struct UdpTransport {
    socket: UdpSocket,
    peers: Vec<SocketAddr>,
    sealer: Sealer,
    opener: Opener,
    begin: Instant,
}

impl UdpTransport {
    /// The transport of the process `rank`, on the socket that is bound to its address in `peers`.
    /// `session` must grow from run to run.
    pub fn new(socket: UdpSocket, rank: Rank, peers: Vec<SocketAddr>, key: &Key, session: u64) -> Self {
        let me = peers[rank as usize];
        Self {
            socket,
            peers,
            sealer: Sealer::new(key.clone(), me, session),
            opener: Opener::new(key.clone(), me),
            begin: Instant::now(),
        }
    }
}

impl Transport for UdpTransport {
    type Error = io::Error;

    fn now(&self) -> Time {
        self.begin.elapsed().as_micros() as Time
    }

    fn send(&mut self, to: Rank, datagram: &[u8]) -> io::Result<()> {
        let Some(&peer) = self.peers.get(to as usize) else {
            return Ok(());
        };
        let sealed = self.sealer.seal(peer, datagram);
        // A dead receiver shows as a refused connection: that is what the protocols are for.
        match self.socket.send_to(&sealed, peer) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, wait: Duration) -> io::Result<Option<(Rank, Vec<u8>)>> {
        let until = Instant::now() + wait;
        let mut buffer = [0; MAX_DATAGRAM + 1];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // A time-out of zero would mean none.
            self.socket.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    if let Ok((from, payload)) = self.opener.open(&buffer[..length])
                        && let Some(rank) = self.peers.iter().position(|&peer| peer == from)
                    {
                        return Ok(Some((rank as Rank, payload.to_vec())));
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}
