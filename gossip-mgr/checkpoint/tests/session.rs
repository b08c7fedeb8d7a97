//! Ranks as threads, nodes as agents with a folder each: checkpoints at each level, and restarts after losses.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gossip_checkpoint::agent::client::Client;
use gossip_checkpoint::agent::wire::{Answer, Ask, LevelSettings, Task};
use gossip_checkpoint::agent::{Agent, Peer, Settings, StartError};
use gossip_checkpoint::comm::threads::Thread;
use gossip_checkpoint::id::{CheckpointId, Job, Level, Name, Object};
use gossip_checkpoint::manifest::Manifest;
use gossip_checkpoint::policy::{Facts, Policy};
use gossip_checkpoint::recovery::{Keeper, Place};
use gossip_checkpoint::session::{Options, Session, Trouble};
use gossip_checkpoint::topology::Host;

const PATIENCE: Duration = Duration::from_secs(60);

/// The level that a test wants next: its place in [`Level::ALL`] plus 1.
#[derive(Clone, Default)]
struct Wanted(Arc<AtomicU32>);

impl Policy for Wanted {
    fn decide(&mut self, _job: &str, _facts: &Facts) -> Option<Level> {
        (self.0.load(Ordering::Relaxed) as usize).checked_sub(1).map(|at| Level::ALL[at])
    }

    fn expected_loss_s(&self, job: &str) -> Option<(u32, f64)> {
        (job == "heat").then_some((7, 12.5))
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    wanted: Wanted,
    failing: Vec<Arc<AtomicU32>>,
    nodes: Vec<Peer>,
    agents: Vec<Agent>,
}

fn levels() -> Vec<LevelSettings> {
    let level = |level, group, parities| LevelSettings { level, group, parities, interval_s: 1.0 };
    vec![
        level(Level::Local, 0, 0),
        level(Level::Xor, 4, 1),
        level(Level::Partner, 0, 0),
        level(Level::ReedSolomon, 4, 2),
        level(Level::Shared, 0, 0),
    ]
}

fn peers(count: usize) -> Vec<Peer> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let peer = |(at, listener): (usize, &TcpListener)| Peer {
        host: Host { name: format!("n{at}").parse().unwrap(), shares: BTreeSet::new() },
        address: listener.local_addr().unwrap(),
    };
    held.iter().enumerate().map(peer).collect()
}

fn settings(dir: &Path, at: usize, nodes: Vec<Peer>, wanted: Wanted, failing: Arc<AtomicU32>) -> Settings {
    Settings {
        node: format!("n{at}").parse().unwrap(),
        store: dir.join(format!("store{at}")),
        shared: Some(dir.join("shared")),
        socket: dir.join(format!("socket{at}")),
        nodes,
        levels: levels(),
        key: [3; 32],
        health: Box::new(move || (failing.load(Ordering::Relaxed) > 0).then(|| "told so".into())),
        policy: Box::new(wanted),
    }
}

impl Cluster {
    fn new(count: usize) -> Self {
        Self::with_absent(count, 0)
    }

    /// Some more nodes are on the list, and are not there.
    fn with_absent(count: usize, absent: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (wanted, nodes) = (Wanted::default(), peers(count + absent));
        let failing: Vec<Arc<AtomicU32>> = (0..count).map(|_| Arc::default()).collect();
        let start = |at: usize| {
            Agent::start(settings(dir.path(), at, nodes.clone(), wanted.clone(), Arc::clone(&failing[at]))).unwrap()
        };
        let agents = (0..count).map(start).collect();
        Self { dir, wanted, failing, nodes, agents }
    }

    fn want(&self, level: Option<Level>) {
        self.wanted.0.store(level.map_or(0, |level| 1 + level.index() as u32), Ordering::Relaxed);
    }

    fn options(&self, node: usize) -> Options {
        Options {
            job: "heat".parse().unwrap(),
            program: "heat".into(),
            socket: self.dir.path().join(format!("socket{node}")),
            prefix: self.dir.path().into(),
            is_restarted: false,
        }
    }

    /// Runs a rank on each of `nodes`.
    fn run<T: Send>(&self, nodes: &[usize], rank: impl Fn(Session<Thread>) -> T + Sync) -> Vec<T> {
        self.try_run(nodes, |_| {}, |session| rank(session.unwrap()))
    }

    fn try_run<T: Send>(
        &self,
        nodes: &[usize],
        change: impl Fn(&mut Options) + Sync,
        rank: impl Fn(Result<Session<Thread>, Trouble>) -> T + Sync,
    ) -> Vec<T> {
        let (rank, change) = (&rank, &change);
        std::thread::scope(|scope| {
            let start = |(comm, &node): (Thread, &usize)| {
                let mut options = self.options(node);
                change(&mut options);
                scope.spawn(move || rank(Session::start(comm, options)))
            };
            let ranks: Vec<_> = Thread::group(nodes.len() as u32).into_iter().zip(nodes).map(start).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    /// Lets a node copy something that is on another.
    fn begin_copy(&self, node: usize, from: &Name, level: Level) {
        let id = CheckpointId { attempt: 9, number: 1, nonce: 0 };
        let manifest = Manifest {
            id,
            name: "x".into(),
            program: "heat".into(),
            rank: 0,
            ranks: 1,
            level,
            written_at: 0,
            needs: Vec::new(),
            files: Vec::new(),
        };
        let options = self.options(node);
        let (mut client, welcome) = Client::connect(&options.socket, PATIENCE).unwrap();
        let from = Place { keeper: Keeper::Node(from.clone()), object: Object::Piece { rank: 0 } };
        let job = Job { owner: welcome.owner, name: options.job };
        let tasks = vec![Task::Copy { manifest, from }];
        assert!(matches!(client.ask(&Ask::Begin { job, id, level, tasks }), Ok(Answer::Done)));
    }

    /// What a node has is lost.
    fn lose(&self, node: usize) {
        fs::remove_dir_all(self.dir.path().join(format!("store{node}/{}", nix_uid()))).unwrap();
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.path().join(folder)];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found
    }
}

fn nix_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn content(rank: u32, step: u32) -> Vec<u8> {
    (0..40_000 + 1_000 * rank).map(|i| (i * 17 + rank * 5 + step * 3 + i / 300) as u8).collect()
}

fn write(session: &mut Session<Thread>, step: u32) -> Result<(), Trouble> {
    session.start_output(Some(&format!("step{step}")), false)?;
    let rank = session.rank();
    let file = session.route(&format!("out/state.{rank}")).unwrap();
    let written = fs::write(file, content(rank, step));
    session.complete_output(written.is_ok())
}

/// Writes one and waits until it is at its level.
fn write_at(cluster: &Cluster, session: &mut Session<Thread>, step: u32, level: Level) {
    if session.rank() == 0 {
        cluster.want(Some(level));
    }
    write(session, step).unwrap();
    settle(session);
    assert_eq!(session.notes(), Vec::<String>::new());
}

/// Waits until nothing goes on in the background.
fn settle(session: &mut Session<Thread>) {
    let begin = Instant::now();
    while !session.is_settled() {
        assert!(begin.elapsed() < PATIENCE, "not at its level");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The step of the checkpoint that is offered, after its files were compared.
fn read(session: &mut Session<Thread>) -> Option<u32> {
    let step: u32 = session.have_restart()?.strip_prefix("step").unwrap().parse().unwrap();
    session.start_restart().unwrap();
    let rank = session.rank();
    let file = session.route(&format!("out/state.{rank}")).unwrap();
    assert!(fs::read(file).unwrap() == content(rank, step), "rank {rank} reads what it wrote");
    session.complete_restart(true).unwrap();
    Some(step)
}

fn all_read(cluster: &Cluster, nodes: &[usize]) -> Vec<Option<u32>> {
    cluster.run(nodes, |mut session| {
        let step = read(&mut session);
        session.finish();
        step
    })
}

const NODES: [usize; 4] = [0, 1, 2, 3];

#[test]
fn each_level_survives_what_it_promises() {
    let lost: [(Level, &[usize]); 5] = [
        (Level::Local, &[]),
        (Level::Xor, &[2]),
        (Level::Partner, &[1]),
        (Level::ReedSolomon, &[0, 3]),
        (Level::Shared, &[0, 1, 2, 3]),
    ];
    for (level, lost) in lost {
        let cluster = Cluster::new(6);
        cluster.run(&NODES, |mut session| {
            assert_eq!(session.have_restart(), None);
            write_at(&cluster, &mut session, 1, level);
        });
        lost.iter().for_each(|&node| cluster.lose(node));
        // The ranks of lost nodes run elsewhere, those of others exchange places.
        let nodes: Vec<usize> = match lost {
            [] => vec![3, 2, 1, 0],
            _ => NODES.iter().map(|node| if lost.contains(node) { 4 + node % 2 } else { *node }).collect(),
        };
        assert_eq!(all_read(&cluster, &nodes), [Some(1); 4], "{level}");
    }
}

#[test]
fn more_than_the_levels_promise_starts_over_and_says_so() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| write_at(&cluster, &mut session, 1, Level::Xor));
    cluster.lose(0);
    cluster.lose(1);
    let told = cluster.run(&NODES, |mut session| {
        assert_eq!(session.have_restart(), None);
        session.notes().join("\n")
    });
    assert!(
        told[0].contains("more is lost than the levels promise") && told[0].contains("It starts over"),
        "{}",
        told[0]
    );
}

#[test]
fn any_node_tells_what_a_failure_would_cost_by_the_node_that_knows() {
    let cluster = Cluster::new(2);
    let options = cluster.options(1);
    let (mut client, welcome) = Client::connect(&options.socket, PATIENCE).unwrap();
    let mut expected = |name: &str| {
        let job = Job { owner: welcome.owner, name: name.parse().unwrap() };
        client.all_held(&job, None).unwrap().expected_loss_s
    };
    assert_eq!((expected("heat"), expected("ocean")), (Some((7, 12.5)), None));
}

#[test]
fn the_newest_that_survives_is_taken() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        write_at(&cluster, &mut session, 1, Level::ReedSolomon);
        write_at(&cluster, &mut session, 2, Level::Xor);
        write_at(&cluster, &mut session, 3, Level::Local);
    });
    cluster.lose(0);
    assert_eq!(all_read(&cluster, &NODES), [Some(2); 4]);
}

#[test]
fn an_older_one_is_taken_if_the_newer_ones_do_not_survive() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        write_at(&cluster, &mut session, 1, Level::ReedSolomon);
        write_at(&cluster, &mut session, 2, Level::Xor);
    });
    cluster.lose(0);
    cluster.lose(1);
    assert_eq!(all_read(&cluster, &NODES), [Some(1); 4]);
}

#[test]
fn after_a_restart_the_level_is_made_anew() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| write_at(&cluster, &mut session, 1, Level::Xor));
    for lost in [2, 0, 3, 1] {
        cluster.lose(lost);
        cluster.run(&NODES, |mut session| {
            assert_eq!(read(&mut session), Some(1), "after node {lost} was lost, too");
            settle(&mut session);
        });
    }
}

#[test]
fn a_flipped_bit_on_disk_is_never_read() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        write_at(&cluster, &mut session, 1, Level::Xor);
        write_at(&cluster, &mut session, 2, Level::Local);
    });
    let flip = |what: &str| {
        for path in cluster
            .files("store1")
            .iter()
            .filter(|path| path.display().to_string().contains(what) && path.ends_with("state.1"))
        {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        }
    };
    flip("1-2-");
    assert_eq!(all_read(&cluster, &NODES), [Some(1); 4], "the newer one has no second copy");
    // The restart makes the level anew meanwhile.
    flip("1-1-");
    assert_eq!(all_read(&cluster, &NODES), [Some(1); 4], "it is rebuilt from the group");
}

#[test]
fn a_rank_that_cannot_write_leaves_the_older_checkpoint() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        write_at(&cluster, &mut session, 1, Level::Local);
        session.start_output(None, false).unwrap();
        let rank = session.rank();
        let file = session.route(&format!("state.{rank}")).unwrap();
        if rank != 2 {
            fs::write(file, [1; 100]).unwrap();
        }
        let error = session.complete_output(true).unwrap_err();
        assert!(matches!(&error, Trouble::Rank { rank: 2, .. }), "{error}");
        write_at(&cluster, &mut session, 3, Level::Local);
    });
    assert_eq!(all_read(&cluster, &NODES), [Some(3); 4]);
}

#[test]
fn a_restart_that_the_program_refuses_offers_the_next_older_one() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        write_at(&cluster, &mut session, 1, Level::Xor);
        write_at(&cluster, &mut session, 2, Level::Local);
    });
    cluster.run(&NODES, |mut session| {
        assert_eq!(session.start_restart().unwrap(), "step2");
        let refused = session.complete_restart(session.rank() != 1).unwrap_err();
        assert!(refused.to_string().contains("rank 1"), "{refused}");
        assert_eq!(read(&mut session), Some(1));
        write_at(&cluster, &mut session, 3, Level::Local);
    });
    assert_eq!(all_read(&cluster, &NODES), [Some(3); 4]);
}

#[test]
fn older_checkpoints_go_when_newer_ones_are_as_safe() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        for step in 1..=9 {
            write_at(&cluster, &mut session, step, if step % 3 == 0 { Level::Partner } else { Level::Local });
        }
    });
    let left: BTreeSet<String> = cluster
        .files("store0")
        .iter()
        .filter_map(|path| {
            path.ancestors().find_map(|folder| Some(folder.file_name()?.to_str()?.strip_prefix("1-")?[..1].to_owned()))
        })
        .collect();
    // The last was not pruned for yet; 6 was complete when 9 began.
    assert_eq!(left.into_iter().collect::<Vec<_>>(), ["6", "8", "9"]);
}

#[test]
fn a_level_under_way_refuses_another_of_its_kind() {
    let cluster = Cluster::with_absent(4, 1);
    let notes = cluster.run(&NODES, |mut session| {
        let mut silent = None;
        if session.rank() == 0 {
            // Node 1 copies from one that takes the connection and never says a word.
            silent = Some(TcpListener::bind(cluster.nodes[4].address).unwrap());
            cluster.begin_copy(1, &cluster.nodes[4].host.name, Level::Shared);
            cluster.want(Some(Level::Shared));
        }
        write(&mut session, 1).unwrap();
        (session.notes().join("\n"), silent).0
    });
    assert!(notes[0].contains("level shared is still being written: this checkpoint is only local"), "{notes:?}");
}

#[test]
fn another_number_of_ranks_and_another_program_are_refused_with_what_to_do() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| write_at(&cluster, &mut session, 1, Level::Xor));
    let fewer = cluster.try_run(&NODES[..3], |_| {}, |session| session.err().unwrap().to_string());
    assert!(fewer[2].contains("checkpoints of 4 ranks and now runs with 3"), "{fewer:?}");
    assert!(fewer[2].contains("gossip-mgr job forget heat"));
    let other = cluster.try_run(&NODES, |o| o.program = "ocean".into(), |session| session.err().unwrap().to_string());
    assert!(other[1].contains("checkpoints of the program heat, and this is ocean"), "{other:?}");
    assert_eq!(all_read(&cluster, &NODES), [Some(1); 4], "nothing was removed");
}

#[test]
fn a_job_that_is_too_small_for_its_groups_is_refused_when_it_is_new() {
    let cluster = Cluster::new(4);
    let told = cluster.try_run(&[0, 1, 2], |_| {}, |session| session.err().unwrap().to_string());
    assert!(told[0].contains("groups of 4 (k + m) and the job has 3 ranks on 3 nodes: lower"), "{told:?}");
    let told = cluster.try_run(&[0, 1, 2], |o| o.is_restarted = true, |session| session.unwrap().notes().join("\n"));
    assert!(told[0].contains("going on without level reed_solomon"), "{told:?}");
}

#[test]
fn without_an_agent_it_is_said_what_to_start() {
    let cluster = Cluster::new(4);
    let change = |o: &mut Options| {
        if o.socket.ends_with("socket2") {
            o.socket = "/nowhere/socket".into();
        }
    };
    let told = cluster.try_run(&NODES, change, |session| session.err().unwrap().to_string());
    assert!(told[0].starts_with("rank 2: no checkpoint agent answers at /nowhere/socket"), "{told:?}");
    assert!(told[0].contains("gossip-mgr run"));
}

#[test]
fn a_store_is_one_nodes_alone() {
    let cluster = Cluster::new(2);
    let nodes = peers(3);
    let mut settings = settings(cluster.dir.path(), 2, nodes.clone(), Wanted::default(), Arc::default());
    settings.store = cluster.dir.path().join("store0");
    let error = Agent::start(settings).err().unwrap();
    assert!(matches!(error, StartError::InUse(_)) && error.to_string().contains("a folder of its own"), "{error}");
    // On another machine, where no lock tells it.
    let store = cluster.dir.path().join("store2");
    fs::create_dir(&store).unwrap();
    fs::write(store.join("node"), "n1\n").unwrap();
    let settings = self::settings(cluster.dir.path(), 2, nodes, Wanted::default(), Arc::default());
    let error = Agent::start(settings).err().unwrap().to_string();
    assert!(error.contains("is the store of node n1, and this is n2: each node needs a folder of its own"), "{error}");
}

#[test]
fn a_node_that_fails_makes_the_job_write_and_leave() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        assert!(!session.need_checkpoint() && !session.should_exit());
        if session.rank() == 0 {
            cluster.failing[2].store(1, Ordering::Relaxed);
        }
        let begin = Instant::now();
        while !session.need_checkpoint() {
            assert!(begin.elapsed() < PATIENCE, "the failing node is not noticed");
        }
        assert!(!session.should_exit(), "not before a checkpoint is safe");
        write(&mut session, 1).unwrap();
        while !session.should_exit() {
            assert!(begin.elapsed() < PATIENCE, "it is not told to leave");
        }
        session.finish();
    });
    // Shared storage is the last of the list: all nodes may go.
    NODES.iter().for_each(|&node| cluster.lose(node));
    cluster.failing[2].store(0, Ordering::Relaxed);
    assert_eq!(all_read(&cluster, &NODES), [Some(1); 4]);
}

#[test]
fn output_is_where_the_program_calls_it() {
    let cluster = Cluster::new(4);
    cluster.run(&NODES, |mut session| {
        session.start_output(Some("plots"), true).unwrap();
        let rank = session.rank();
        fs::write(session.route(&format!("plots/{rank}/picture")).unwrap(), [rank as u8; 9]).unwrap();
        session.complete_output(true).unwrap();
    });
    for rank in 0..4 {
        assert_eq!(fs::read(cluster.dir.path().join(format!("plots/{rank}/picture"))).unwrap(), [rank; 9]);
    }
}

#[test]
fn names_of_nodes_are_those_of_the_configuration() {
    let cluster = Cluster::new(1);
    let unknown: Name = "n7".parse().unwrap();
    let mut settings = settings(cluster.dir.path(), 7, peers(2), Wanted::default(), Arc::default());
    settings.node = unknown;
    let error = Agent::start(settings).err().unwrap().to_string();
    assert!(error.contains("n7 is none of checkpoint.nodes: add it there"), "{error}");
    assert_eq!(cluster.agents.len(), 1);
}
