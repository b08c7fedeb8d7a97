//! The collectives over real sockets, one thread a process.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use gossip_core::collective::LogP;
use gossip_core::collective::broadcast::{Dissemination, Phasing, Plan};
use gossip_core::collective::correction::CorrectionKind;
use gossip_core::collective::topology::{Tree, TreeKind};
use gossip_core::collective::transport::{Transport, allreduce, broadcast};
use gossip_core::seal::Key;
use gossip_mgr::udp::UdpTransport;

const P: u32 = 8;
const LOGP: LogP = LogP { latency: 2, overhead: 1, gap: 1 };
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `process` for each live rank on a thread of its own, ranks in `dead` have a closed socket.
fn with_processes<R: Send>(dead: &[u32], process: impl Fn(u32, UdpTransport) -> R + Sync) -> Vec<R> {
    let sockets: Vec<UdpSocket> = (0..P).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let peers: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
    let key = Key::derive(&[1; 32]);
    let (process, peers, key) = (&process, &peers, &key);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..P)
            .zip(sockets)
            .filter(|(rank, _)| !dead.contains(rank))
            .map(|(rank, socket)| {
                let transport = UdpTransport::new(socket, rank, peers.clone(), key, 1);
                scope.spawn(move || process(rank, transport))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_checked_broadcast_reaches_every_live_process() {
    for dead in [vec![], vec![1, 5]] {
        let tree = Tree::new(TreeKind::Binomial, P, LOGP).unwrap();
        let plan = Plan::new(P, Dissemination::Tree(tree), CorrectionKind::Checked, Phasing::Overlapped).unwrap();
        let delivered = with_processes(&dead, |rank, mut transport| {
            let payload = (rank == 0).then(|| b"news".to_vec());
            let linger = Duration::from_millis(300);
            broadcast(&mut transport, &plan, rank, 1, payload, LIMIT, linger).unwrap()
        });
        assert_eq!(delivered.len(), P as usize - dead.len());
        assert!(delivered.iter().all(|d| d.payload == b"news"));
    }
}

#[test]
fn an_allreduce_gives_all_the_same_sum_and_says_whose() {
    for dead in [vec![], vec![1], vec![0, 3]] {
        let tree = Tree::new(TreeKind::Binomial, P, LOGP).unwrap();
        let results = with_processes(&dead, |rank, mut transport| {
            let add: fn(&mut u64, &u64) = |a, b| *a += b;
            let timeout = Duration::from_secs(2);
            let value = 1 << rank;
            allreduce(&mut transport, &tree, rank, 1, value, add, timeout, LIMIT).unwrap()
        });
        let live: u64 = (0..P).filter(|r| !dead.contains(r)).map(|r| 1 << r).sum();
        for result in results {
            assert_eq!(result.value, result.contributors.words()[0], "a sum of its contributors");
            assert_eq!(result.value, live, "dead {dead:?}");
        }
    }
}

/// Loses the first datagram to each process.
struct Lossy {
    below: UdpTransport,
    met: Vec<u32>,
}

impl Transport for Lossy {
    type Error = <UdpTransport as Transport>::Error;

    fn now(&self) -> u64 {
        self.below.now()
    }

    fn send(&mut self, to: u32, datagram: &[u8]) -> Result<(), Self::Error> {
        if self.met.contains(&to) {
            return self.below.send(to, datagram);
        }
        self.met.push(to);
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<(u32, Vec<u8>)>, Self::Error> {
        self.below.receive(wait)
    }
}

#[test]
fn an_allreduce_repairs_the_loss_of_datagrams() {
    let tree = Tree::new(TreeKind::Binomial, P, LOGP).unwrap();
    let results = with_processes(&[], |rank, below| {
        let mut transport = Lossy { below, met: Vec::new() };
        let add: fn(&mut u64, &u64) = |a, b| *a += b;
        let (value, timeout) = (1 << rank, Duration::from_secs(3));
        allreduce(&mut transport, &tree, rank, 1, value, add, timeout, LIMIT).unwrap()
    });
    assert!(results.iter().all(|r| r.value == 255), "{results:?}");
}
