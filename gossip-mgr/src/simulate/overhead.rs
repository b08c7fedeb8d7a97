//! What a daemon costs: a real one, in a process of its own, is given the traffic of a large cluster
//! by sealed UDP datagrams on loopback, and the kernel's account of its CPU time is read.
//!
//! The peers are simulated as far as the daemon can see: each joins by SWIM, has a board that
//! exchanges with all other peers' once an interval (the daemon's pushes included), pushes to the
//! daemon when it draws it, and answers pushes and pings. They have no failure detector of their own
//! and spread no membership, of which there is next to nothing once all have joined.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use gossip_core::board::{Board, Micros, Notice};
use gossip_core::node::wire::{Packet, pushes};
use gossip_core::node::{Member, Node, Output, Settings};
use gossip_core::report::Report;
use gossip_core::rng::Rng;
use gossip_core::seal::{Key, MAX_DATAGRAM, Opener, Sealer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};

use super::plot::{Axis, plot};
use crate::control::{Request, Response, ask};
use crate::interruption::check;

/// The bound: share of one core with the most peers.
const BOUND: f64 = 0.01;
/// Time for boards and the detector's means to fill.
const SETTLE: Duration = Duration::from_secs(10);
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// See `simulate overhead`.
pub fn run(
    numbers: &[u16],
    seconds: u64,
    interval_ms: u64,
    cores: u16,
    seed: u64,
    plots: Option<&Path>,
) -> anyhow::Result<bool> {
    let most = numbers.iter().copied().max().unwrap_or(0);
    allow_files(u64::from(most) + 64)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    say!(
        "gossip-mgr {} ({} build) on {}: interval {interval_ms} ms, {seconds} s after {} s, reports of {cores} \
         cores; sensors every second; loopback",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "unoptimised" } else { "optimised" },
        cpu(),
        SETTLE.as_secs()
    )?;
    say!("peers  CPU s   % of a core    in/s   kB/s   out/s   kB/s  entries a push  µs a datagram")?;
    let (mut points, mut good) = (Vec::new(), true);
    for &peers in numbers {
        let local = tokio::task::LocalSet::new();
        let work = async {
            tokio::select! {
                ended = interruption() => ended,
                measured = measure(peers, seconds, interval_ms, cores, seed) => measured,
            }
        };
        let m = local.block_on(&runtime, work)?;
        let share = m.cpu / m.wall;
        let per = |count: u64| count as f64 / m.wall;
        let (received, sent) = (&m.traffic.to_daemon, &m.traffic.from_daemon);
        let a_datagram = match received.datagrams + sent.datagrams {
            0 => "-".into(),
            count => format!("{:.1}", 1e6 * m.cpu / count as f64),
        };
        say!(
            "{peers:5} {:6.3} {:10.3} %  {:7.1} {:6.1} {:7.1} {:6.1} {:15.1} {a_datagram:>14}",
            m.cpu,
            100.0 * share,
            per(received.datagrams),
            per(received.bytes) / 1e3,
            per(sent.datagrams),
            per(sent.bytes) / 1e3,
            m.traffic.entries as f64 / m.traffic.pushes.max(1) as f64,
        )?;
        if peers == most {
            good = share < BOUND;
        }
        points.push((f64::from(peers) + 1.0, 100.0 * share));
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bound = points.iter().map(|&(n, _)| (n, 100.0 * BOUND)).collect();
    let curves = [("measured", points), ("bound", bound)];
    let axes = (Axis::linear("nodes"), Axis::linear("% of a core"));
    plot(plots, "overhead", "CPU time of one daemon", axes, &curves)?;
    Ok(good)
}

/// Fails once a signal asks for the end.
async fn interruption() -> anyhow::Result<Measured> {
    loop {
        check()?;
        sleep(Duration::from_millis(100)).await;
    }
}

/// Raises the limit of open files: each peer has a socket.
fn allow_files(needed: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < needed {
        bail!("{needed} open files are needed, {hard} are allowed: raise the hard limit (ulimit -Hn)");
    }
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("cannot raise the limit of open files")?;
    }
    Ok(())
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("an unknown processor".into(), |(_, name)| name.to_owned())
}

#[derive(Clone, Debug, Default)]
struct Count {
    datagrams: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
    }
}

#[derive(Clone, Debug, Default)]
struct Traffic {
    to_daemon: Count,
    from_daemon: Count,
    /// Pushes to the daemon and the entries in them.
    pushes: u64,
    entries: u64,
}

struct Measured {
    /// Seconds of CPU time.
    cpu: f64,
    /// Seconds that went by.
    wall: f64,
    traffic: Traffic,
}

/// The daemon under test; killed when dropped.
struct Daemon {
    child: Child,
    addr: SocketAddr,
    control: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(folder: &Path, key: &[u8], interval_ms: u64) -> anyhow::Result<Self> {
        let free = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let (key_file, config, control) = (folder.join("key"), folder.join("config.toml"), folder.join("control"));
        std::fs::write(&key_file, key)?;
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600))?;
        let text = format!(
            "[node]\nlisten = '{free}'\nkey_file = '{}'\nstate_dir = '{}'\n[gossip]\ninterval_ms = {interval_ms}\n\
             [control]\nsocket = '{}'\n",
            key_file.display(),
            folder.display(),
            control.display()
        );
        std::fs::write(&config, text)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the daemon under test")?;
        Ok(Self { child, addr: free, control })
    }

    /// Nodes that it holds to be alive, itself included.
    fn alive(&self) -> usize {
        match ask(&self.control, &Request::Status) {
            Ok(Response::Status(status)) => status.nodes.iter().filter(|n| n.state == "alive").count(),
            _ => 0,
        }
    }

    /// CPU time in nanoseconds, all threads.
    fn cpu_time(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))
                .context("the kernel does not account CPU time (schedstat)")?;
            sum += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }
}

async fn measure(peers: u16, seconds: u64, interval_ms: u64, cores: u16, seed: u64) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let secret = [7; 32];
    let daemon = Daemon::start(folder.path(), &secret, interval_ms)?;
    let cluster = Cluster::open(peers, daemon.addr, &Key::derive(&secret), cores, seed).await?;
    let cluster = Rc::new(RefCell::new(cluster));
    for index in 0..usize::from(peers) {
        tokio::task::spawn_local(answer(Rc::clone(&cluster), index));
    }
    let begin = Instant::now();
    while daemon.alive() != usize::from(peers) + 1 {
        if begin.elapsed() > JOIN_LIMIT {
            bail!("only {} of {} nodes joined within {} s", daemon.alive(), peers + 1, JOIN_LIMIT.as_secs());
        }
        // Datagrams may get lost: the rest joins again.
        for index in 0..usize::from(peers) {
            cluster.borrow_mut().join(index);
            if index % 32 == 31 {
                sleep(Duration::from_millis(5)).await;
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
    let interval = Duration::from_millis(interval_ms);
    tokio::task::spawn_local(exchange(Rc::clone(&cluster), interval));
    sleep(SETTLE).await;
    let (before, begin) = (daemon.cpu_time()?, Instant::now());
    cluster.borrow_mut().traffic = Traffic::default();
    sleep(Duration::from_secs(seconds)).await;
    let (cpu, wall) = (daemon.cpu_time()? - before, begin.elapsed());
    let traffic = cluster.borrow().traffic.clone();
    if daemon.alive() != usize::from(peers) + 1 {
        bail!("the daemon lost peers while it was measured: this machine is too slow to simulate so many");
    }
    Ok(Measured { cpu: cpu as f64 / 1e9, wall: wall.as_secs_f64(), traffic })
}

/// The simulated peers. On their boards the daemon is node 0, peer `i` is node `i + 1`.
struct Cluster {
    daemon: SocketAddr,
    key: Key,
    addrs: Vec<SocketAddr>,
    numbers: HashMap<SocketAddr, u32>,
    sockets: Vec<Rc<UdpSocket>>,
    sealers: Vec<Sealer>,
    boards: Vec<Board<u32, ()>>,
    round: u64,
    report: Report,
    rng: Rng,
    token: u64,
    traffic: Traffic,
}

impl Cluster {
    async fn open(peers: u16, daemon: SocketAddr, key: &Key, cores: u16, seed: u64) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for _ in 0..peers {
            let socket = UdpSocket::bind("127.0.0.1:0").await.context("cannot open a socket for a peer")?;
            sockets.push(Rc::new(socket));
        }
        let addrs = sockets.iter().map(|s| s.local_addr()).collect::<Result<Vec<_>, _>>()?;
        let numbers = std::iter::once(&daemon).chain(&addrs).copied().zip(0..).collect();
        let window = Settings::default().window.into();
        Ok(Self {
            daemon,
            key: key.clone(),
            sealers: addrs.iter().map(|&addr| Sealer::new(key.clone(), addr, 1)).collect(),
            boards: (1..=u32::from(peers)).map(|node| Board::new(node, 1, window)).collect(),
            addrs,
            numbers,
            sockets,
            round: 0,
            report: Report {
                name: "node-0000".into(),
                core_load: (0..cores).map(|core| (core % 101) as u8).collect(),
                load_average: 1_234,
                compute_free: Some((1..4).collect()),
                compute_used: Some(60),
                memory_total: 256 << 20,
                memory_free: 100 << 20,
                temperature: Some(456),
                ..Report::default()
            },
            rng: Rng::new(seed, 0),
            token: 0,
            traffic: Traffic::default(),
        })
    }

    fn send(&mut self, from: usize, packet: &Packet) {
        let datagram = self.sealers[from].seal(self.daemon, &packet.encode());
        // A full socket buffer loses it, as a network would.
        if self.sockets[from].try_send_to(&datagram, self.daemon).is_ok() {
            self.traffic.to_daemon.add(datagram.len());
        }
    }

    fn join(&mut self, index: usize) {
        let me = Member { addr: self.addrs[index], incarnation: 1 };
        let mut node = Node::new(Settings::default(), me, index as u64, 0);
        node.join(&[self.daemon], 0);
        for output in node.drain() {
            if let Output::Send(_, packet) = output {
                self.send(index, &packet);
            }
        }
    }

    fn receive(&mut self, index: usize, packet: Packet) {
        match packet {
            Packet::Push { token, notices, .. } => {
                for notice in notices {
                    if let Some(&node) = self.numbers.get(&notice.node) {
                        self.boards[index].merge(
                            self.round,
                            Notice { node, incarnation: 1, version: notice.version, age: 0, urgent: false, report: () },
                            0,
                        );
                    }
                }
                if token != 0 {
                    self.send(index, &Packet::Ack { token });
                }
            }
            Packet::Ping { token, .. } => self.send(index, &Packet::Ack { token }),
            _ => {}
        }
    }

    /// One exchange among the peers; who pushes to the daemon in it.
    fn step(&mut self) -> Vec<usize> {
        self.round += 1;
        let round = self.round;
        for board in &mut self.boards {
            board.refresh(round, (), false);
        }
        let (mut flights, mut to_daemon) = (Vec::new(), Vec::new());
        for (index, board) in self.boards.iter().enumerate() {
            let drawn = self.rng.below(self.boards.len() as u64) as usize;
            let to = if drawn > index { drawn + 1 } else { drawn };
            match to.checked_sub(1) {
                None => to_daemon.push(index),
                Some(to) => flights.push((to, board.window(round).collect::<Vec<_>>())),
            }
        }
        for (to, window) in flights {
            for notice in window {
                self.boards[to].merge(round, notice, 0);
            }
        }
        to_daemon
    }

    fn push(&mut self, index: usize, interval: Duration) {
        let window: Vec<_> = self.boards[index].window(self.round).collect();
        self.traffic.pushes += 1;
        self.traffic.entries += window.len() as u64;
        let notices = window.into_iter().map(|notice| Notice {
            node: match notice.node {
                0 => self.daemon,
                peer => self.addrs[peer as usize - 1],
            },
            incarnation: notice.incarnation,
            version: notice.version,
            age: notice.age * interval.as_micros() as Micros,
            urgent: false,
            report: self.report.clone(),
        });
        let packets = pushes(notices, Vec::new(), Settings::default().payload);
        for (part, mut packet) in packets.into_iter().enumerate() {
            if let (0, Packet::Push { token, .. }) = (part, &mut packet) {
                self.token += 1;
                *token = self.token;
            }
            self.send(index, &packet);
        }
    }
}

/// Lets the boards exchange once an interval; pushes to the daemon come at random moments of it.
async fn exchange(cluster: Rc<RefCell<Cluster>>, interval: Duration) {
    let mut at = Instant::now();
    loop {
        let mut due: Vec<(Duration, usize)> = {
            let mut cluster = cluster.borrow_mut();
            let pushing = cluster.step();
            let moment = |index| (interval.mul_f64(cluster.rng.unit()), index);
            pushing.into_iter().map(moment).collect()
        };
        due.sort_unstable();
        for (offset, index) in due {
            sleep_until(at + offset).await;
            cluster.borrow_mut().push(index, interval);
        }
        at += interval;
        sleep_until(at).await;
    }
}

/// Takes what the daemon sends to one peer.
async fn answer(cluster: Rc<RefCell<Cluster>>, index: usize) {
    let (socket, mut opener) = {
        let cluster = cluster.borrow();
        let opener = Opener::new(cluster.key.clone(), cluster.addrs[index]);
        (Rc::clone(&cluster.sockets[index]), opener)
    };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else {
            continue;
        };
        let mut cluster = cluster.borrow_mut();
        cluster.traffic.from_daemon.add(length);
        if let Ok((_, payload)) = opener.open(&buffer[..length])
            && let Some(packet) = Packet::decode(payload)
        {
            cluster.receive(index, packet);
        }
    }
}
