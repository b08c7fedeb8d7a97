//! Memory is written once where it does not change, and read back as it was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gossip_checkpoint::agent::wire::LevelSettings;
use gossip_checkpoint::agent::{Agent, Peer, Settings};
use gossip_checkpoint::comm::threads::Thread;
use gossip_checkpoint::dense::Dense;
use gossip_checkpoint::id::Level;
use gossip_checkpoint::policy::{Facts, Policy};
use gossip_checkpoint::session::{Options, Session};
use gossip_checkpoint::topology::Host;

struct Always(Level);

impl Policy for Always {
    fn decide(&mut self, _job: &str, _facts: &Facts) -> Option<Level> {
        Some(self.0)
    }
}

const SIZE: usize = 1 << 20;

fn memory(rank: u32, step: u32) -> Vec<u8> {
    // Noise that does not compress; a twentieth of it changes with the step.
    let mut hasher = blake3::Hasher::new();
    hasher.update(&rank.to_le_bytes());
    let mut bytes = vec![0; SIZE];
    hasher.finalize_xof().fill(&mut bytes);
    bytes[..SIZE / 20].fill(step as u8);
    bytes
}

fn start(dir: &std::path::Path, level: Level) -> Vec<Agent> {
    let held: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let peer = |at: usize| Peer {
        host: Host { name: format!("n{at}").parse().unwrap(), shares: BTreeSet::new() },
        address: held[at].local_addr().unwrap(),
    };
    let nodes = vec![peer(0), peer(1)];
    drop(held);
    let agent = |at: usize| {
        let settings = Settings {
            node: nodes[at].host.name.clone(),
            store: dir.join(format!("store{at}")),
            shared: None,
            socket: dir.join(format!("socket{at}")),
            nodes: nodes.clone(),
            levels: vec![LevelSettings { level, group: 0, parities: 0, interval_s: 0.0 }],
            key: [1; 32],
            health: Box::new(|| None),
            policy: Box::new(Always(level)),
        };
        Agent::start(settings).unwrap()
    };
    (0..2).map(agent).collect()
}

fn run<T: Send>(dir: &std::path::Path, rank: impl Fn(Session<Thread>) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let rank = &rank;
        let start = |(at, comm): (usize, Thread)| {
            let options = Options {
                job: "dense".parse().unwrap(),
                program: "dense".into(),
                socket: dir.join(format!("socket{at}")),
                prefix: dir.into(),
                is_restarted: false,
            };
            scope.spawn(move || rank(Session::start(comm, options).unwrap()))
        };
        let ranks: Vec<_> = Thread::group(2).into_iter().enumerate().map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn settle(session: &mut Session<Thread>) {
    let begin = Instant::now();
    while !session.is_settled() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn unchanged_blocks_are_written_once_and_a_partner_has_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let _agents = start(dir.path(), Level::Partner);
    let written = run(dir.path(), |mut session| {
        let mut dense = Dense::default();
        let rank = session.rank();
        let step = |step| {
            let bytes = memory(rank, step);
            dense.checkpoint(&mut session, &[(7, &bytes[..SIZE / 2]), (9, &bytes[SIZE / 2..])]).unwrap();
            settle(&mut session);
            dense.written()
        };
        (1..=20).map(step).collect::<Vec<u64>>()
    });
    for written in &written {
        assert!(written[0] > SIZE as u64 * 9 / 10 && written[1] < SIZE as u64 / 5, "{written:?}");
        let whole = written.iter().filter(|&&bytes| bytes > SIZE as u64 * 9 / 10).count();
        assert_eq!(whole, 3, "every eighth is whole, so that no chain is long: {written:?}");
    }
    // Node 0's disk is lost, with what the last checkpoint refers to.
    std::fs::remove_dir_all(dir.path().join("store0").join(nix::unistd::geteuid().to_string())).unwrap();
    run(dir.path(), |mut session| {
        let mut bytes = vec![0; SIZE];
        let (first, second) = bytes.split_at_mut(SIZE / 2);
        assert!(Dense::default().restart(&mut session, &mut [(7, first), (9, second)]).unwrap());
        assert!(bytes == memory(session.rank(), 20));
    });
}

#[test]
fn a_region_of_another_size_is_not_filled() {
    let dir = tempfile::tempdir().unwrap();
    let _agents = start(dir.path(), Level::Local);
    run(dir.path(), |mut session| {
        Dense::default().checkpoint(&mut session, &[(1, &[5; 1000])]).unwrap();
    });
    run(dir.path(), |mut session| {
        let mut bytes = [0; 999];
        assert!(!Dense::default().restart(&mut session, &mut [(1, &mut bytes)]).unwrap());
        assert_eq!(session.have_restart(), None);
    });
}
