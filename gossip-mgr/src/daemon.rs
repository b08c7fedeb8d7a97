//! `gossip-mgr run`: one node on a real network.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context;
use gossip_core::board::{Micros, expected_age};
use gossip_core::detector::Verdict;
use gossip_core::node::wire::Packet;
use gossip_core::node::{Event, Member, Node, Output};
use gossip_core::seal::{MAX_DATAGRAM, Opener, Rejected, Sealer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use crate::advice::{Adviser, decide};
use crate::config::Config;
use crate::control::{Request, Response};
use crate::metrics::{Label, Metrics};
use crate::sensors::Sensors;
use crate::view::{Explained, NodeStatus, Status};
use crate::{config::ConfigError, key, key::KeyError};

/// Seconds between two attempts to join while no other node is known.
const JOIN_AGAIN: Duration = Duration::from_secs(1);
/// Attempts to join after which it is told that no seed answers.
const JOINS_BEFORE_WARNING: u32 = 5;

/// Packet counters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that the system did not send.
    pub send_errors: u64,
    /// Datagrams accepted.
    pub received: u64,
    /// Datagrams dropped as malformed or oversized.
    pub malformed: u64,
    /// Datagrams dropped as not authentic.
    pub not_authentic: u64,
    /// Datagrams dropped as replayed.
    pub replayed: u64,
}

/// Why the daemon did not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

struct Daemon {
    config: Config,
    node: Node,
    sealer: Sealer,
    opener: Opener,
    begin: Instant,
    counters: Counters,
    metrics: Metrics,
    adviser: Adviser,
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
    known: std::collections::BTreeMap<SocketAddr, u64>,
    /// Attempts to join since another node was known.
    joins: u32,
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] if it cannot start.
pub fn run(config: Config) -> Result<(), RunError> {
    let key = match &config.node.key_file {
        Some(path) => key::load(path)?,
        None => key::lonely()?,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let local = tokio::task::LocalSet::new();
    Ok(local.block_on(&runtime, serve(config, key))?)
}

async fn serve(config: Config, key: gossip_core::seal::Key) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(config.node.listen)
        .await
        .with_context(|| format!("node.listen: cannot bind UDP {}: is it in use?", config.node.listen))?;
    let (control, _guard) = listen_control(&config.control.socket)?;
    let socket_path = config.control.socket.display().to_string();
    let metrics = Metrics::default();
    if let Some(listen) = config.metrics.listen {
        metrics.serve(listen).await?;
    }
    let incarnation = next_incarnation(&config.control.socket);
    let addr = config.advertised();
    let me = Member { addr, incarnation };
    let mut sensors = Sensors::new(config.sensors.clone());
    let mut node = Node::new(config.settings(), me, incarnation ^ u64::from(std::process::id()), 0);
    node.set_report(sensors.read());
    info!(node = %addr, incarnation, seeds = ?config.node.seeds, control = socket_path, "started");

    let mut tick = interval(Duration::from_micros(node.tick_interval()));
    let mut sense = interval(Duration::from_millis(config.sensors.interval_ms));
    let mut advise = interval(Duration::from_secs(config.advice.interval_s));
    let mut join = interval(JOIN_AGAIN);
    for timer in [&mut tick, &mut sense, &mut advise, &mut join] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let daemon = Rc::new(RefCell::new(Daemon {
        adviser: Adviser::new(config.advice.clone()),
        node,
        sealer: Sealer::new(key.clone(), addr, incarnation),
        opener: Opener::new(key, addr),
        begin: Instant::now(),
        counters: Counters::default(),
        metrics,
        outgoing: Vec::new(),
        known: std::collections::BTreeMap::new(),
        joins: 0,
        config,
    }));
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            readable = socket.readable() => {
                readable?;
                drain(&socket, &daemon, &mut buffer);
            }
            _ = tick.tick() => {
                // What waits in the socket is older than this tick and may be news.
                drain(&socket, &daemon, &mut buffer);
                daemon.borrow_mut().tick();
            }
            _ = sense.tick() => {
                let report = sensors.read();
                daemon.borrow_mut().node.set_report(report);
            }
            _ = advise.tick() => daemon.borrow_mut().advise(),
            _ = join.tick() => daemon.borrow_mut().join(),
            accepted = control.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(answer(stream, Rc::clone(&daemon)));
                }
                Err(error) => warn!(%error, "control connection failed"),
            },
        }
        transmit(&socket, &daemon).await;
    }
    info!("leaving");
    {
        let mut daemon = daemon.borrow_mut();
        let now = daemon.now();
        daemon.node.leave(now);
        daemon.collect();
    }
    transmit(&socket, &daemon).await;
    Ok(())
}

fn drain(socket: &UdpSocket, daemon: &RefCell<Daemon>, buffer: &mut [u8]) {
    let mut daemon = daemon.borrow_mut();
    // ICMP errors of earlier sends also show up here: they say nothing of use.
    for _ in 0..10_000 {
        match socket.try_recv_from(buffer) {
            Ok((length, _)) => daemon.receive(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(_) => {}
        }
    }
}

async fn transmit(socket: &UdpSocket, daemon: &RefCell<Daemon>) {
    let outgoing = std::mem::take(&mut daemon.borrow_mut().outgoing);
    for (to, datagram) in outgoing {
        let sent = socket.send_to(&datagram, to).await;
        let mut daemon = daemon.borrow_mut();
        match sent {
            Ok(_) => daemon.counters.sent += 1,
            Err(_) => daemon.counters.send_errors += 1,
        }
        daemon.metrics.sent.inc();
    }
}

/// Removes the control socket when the daemon ends.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn listen_control(path: &Path) -> anyhow::Result<(UnixListener, SocketFile)> {
    use std::os::unix::fs::PermissionsExt;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("control.socket: another gossip-mgr answers at {}", path.display());
    }
    // Left behind by one that was killed.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| {
        format!("control.socket: cannot listen at {}: choose another in the configuration", path.display())
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok((listener, SocketFile(path.into())))
}

/// A number greater than in any earlier life: the clock's, or one more than the last if the clock
/// went back.
fn next_incarnation(control: &Path) -> u64 {
    let file = control.with_extension("incarnation");
    let last: u64 = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let clock = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64;
    let incarnation = clock.max(last + 1);
    if let Err(error) = std::fs::write(&file, format!("{incarnation}\n")) {
        warn!(file = %file.display(), %error, "cannot remember the incarnation");
    }
    incarnation
}

impl Daemon {
    fn now(&self) -> Micros {
        self.begin.elapsed().as_micros() as Micros
    }

    fn receive(&mut self, datagram: &[u8]) {
        let now = self.now();
        let opened = self.opener.open(datagram).and_then(|(from, payload)| {
            Packet::decode(payload).map(|packet| (from, packet)).ok_or(Rejected::Malformed)
        });
        match opened {
            Ok((from, packet)) => {
                self.counters.received += 1;
                self.metrics.received.inc();
                self.node.receive(now, from, packet);
                self.collect();
            }
            Err(rejected) => {
                let (counter, what) = match rejected {
                    Rejected::NotAuthentic => (&mut self.counters.not_authentic, "not_authentic"),
                    Rejected::Replayed => (&mut self.counters.replayed, "replayed"),
                    Rejected::Malformed | Rejected::Oversized | Rejected::Version => {
                        (&mut self.counters.malformed, "malformed")
                    }
                };
                *counter += 1;
                self.metrics.dropped.get_or_create(&Label { what }).inc();
                debug!(%rejected, "datagram dropped");
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        self.node.tick(now);
        self.collect();
    }

    fn join(&mut self) {
        let seeds = self.unanswered_seeds();
        if !seeds.is_empty() {
            let now = self.now();
            self.node.join(&seeds, now);
            self.collect();
            self.joins += 1;
            if self.joins == JOINS_BEFORE_WARNING {
                warn!(?seeds, "no seed has answered: is gossip-mgr running there, with the same key? Asking on");
            }
        } else {
            self.joins = 0;
        }
        let status = self.status();
        for what in ["alive", "suspect", "dead"] {
            let count = status.nodes.iter().filter(|n| n.state == what).count();
            self.metrics.nodes.get_or_create(&Label { what }).set(count as i64);
        }
        self.metrics.mean_age.set(status.mean_age_s.unwrap_or_default());
        self.metrics.local_health.set(status.local_health.into());
    }

    /// The seeds, while no other node is known.
    fn unanswered_seeds(&self) -> Vec<SocketAddr> {
        let me = self.node.me().addr;
        let seeds = self.config.node.seeds.iter().copied();
        match self.node.members().next() {
            None => seeds.filter(|&seed| seed != me).collect(),
            Some(_) => Vec::new(),
        }
    }

    fn advise(&mut self) {
        let now = self.now();
        let me = self.node.me().addr;
        let stale = 30 * self.config.settings().gossip_interval + 5_000_000;
        let advice = decide(self.node.board(), me, self.config.advice.threshold, stale, now, |node| {
            self.node.verdict(node) == Some(&Verdict::Alive)
        });
        let failures = self.adviser.take(me, advice);
        self.metrics.failures.get_or_create(&Label { what: "audit_log" }).inc_by(failures);
    }

    /// Takes what the node wants sent and what it says.
    fn collect(&mut self) {
        for output in self.node.drain() {
            match output {
                Output::Send(to, packet) => {
                    let datagram = self.sealer.seal(to, &packet.encode());
                    self.outgoing.push((to, datagram));
                }
                Output::Event(event) => self.note(event),
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Joined(member) | Event::Restarted(member) => {
                self.known.insert(member.addr, member.incarnation);
                info!(node = %member.addr, incarnation = member.incarnation, "node joined");
            }
            Event::Suspected(node) => {
                self.metrics.suspicions.inc();
                info!(%node, "node suspected");
            }
            Event::Cleared(node) => info!(%node, "suspicion cleared"),
            Event::Died(node) => {
                self.metrics.deaths.inc();
                warn!(%node, "node declared dead");
            }
            Event::Gone(node) => warn!(%node, "node gone"),
            Event::Revived(node) => warn!(%node, "node alive after all"),
            Event::Rejoined(incarnation) => {
                warn!(incarnation, "the others took this node for dead; rejoined");
            }
        }
    }

    fn status(&self) -> Status {
        let now = self.now();
        let me = self.node.me();
        let board = self.node.board();
        let seconds = |micros: Micros| micros as f64 / 1e6;
        let everybody = self.known.iter().map(|(&addr, &incarnation)| Member { addr, incarnation });
        let nodes: Vec<NodeStatus> = std::iter::once(me)
            .chain(everybody)
            .map(|Member { addr: node, incarnation }| {
                let entry = board.get(&node);
                NodeStatus {
                    node,
                    incarnation,
                    state: if node == me.addr { "alive" } else { self.state(node) }.into(),
                    age_s: entry.map(|e| seconds(now.saturating_sub(e.made_at))),
                    report: entry.map(|e| e.report.clone()),
                }
            })
            .collect();
        // A master has other colonies' reports too, which are older than the model says.
        let near: std::collections::BTreeSet<SocketAddr> = self.node.colony_members().collect();
        let ages: Vec<f64> = nodes.iter().filter(|n| near.contains(&n.node)).filter_map(|n| n.age_s).collect();
        let settings = self.config.settings();
        let interval = seconds(settings.gossip_interval);
        let mean = ages.iter().sum::<f64>() / ages.len().max(1) as f64;
        // The model counts the own entry, of age 0, among the n.
        let n = ages.len() as u32 + 1;
        let expected = expected_age(n, settings.window, 0.0) * interval * f64::from(n) / f64::from(n - 1).max(1.0);
        Status {
            node: me.addr,
            incarnation: me.incarnation,
            uptime_s: seconds(now),
            local_health: self.node.local_health(),
            mean_age_s: (!ages.is_empty()).then_some(mean),
            expected_age_s: (!ages.is_empty()).then_some(expected),
            unanswered_seeds: self.unanswered_seeds(),
            colony: self.node.colony().len(),
            masters: self.node.masters(),
            advice: self.adviser.current().to_vec(),
            dry_run: self.config.advice.dry_run,
            counters: self.counters.clone(),
            nodes,
        }
    }

    fn state(&self, node: SocketAddr) -> &'static str {
        match self.node.verdict(node) {
            Some(Verdict::Alive) => "alive",
            Some(Verdict::Suspect { .. }) => "suspect",
            Some(Verdict::Dead { .. }) | None => "dead",
        }
    }

    fn explain(&self, node: SocketAddr) -> Response {
        let now = self.now();
        let Some(known) = self.node.explain(node, now) else {
            let hint = if node == self.node.me().addr {
                "that is this node"
            } else {
                "no such node; `gossip-mgr members` lists those that are known"
            };
            return Response::Error(format!("nothing to explain about {node}: {hint}"));
        };
        let seconds = |micros: Micros| micros as f64 / 1e6;
        Response::Explained(Explained {
            node,
            state: self.state(node).into(),
            silence_s: seconds(known.silence),
            mean_gap_s: known.mean_gap.map(seconds),
            phi: known.phi,
            confirmations: known.confirmers,
            dies_in_s: known.dies_at.map(|at| seconds(at.saturating_sub(now))),
            answered: known.answered,
            missed: known.missed,
        })
    }
}

/// Answers one request; a client that is slow or talks nonsense is dropped.
async fn answer(stream: UnixStream, daemon: Rc<RefCell<Daemon>>) {
    let work = async {
        let (reader, mut writer) = stream.into_split();
        let mut line = String::new();
        BufReader::new(reader.take(4_096)).read_line(&mut line).await?;
        let response = match serde_json::from_str(&line) {
            Ok(Request::Status) => Response::Status(Box::new(daemon.borrow().status())),
            Ok(Request::Explain { node }) => daemon.borrow().explain(node),
            Err(error) => Response::Error(format!("not a request: {error}")),
        };
        let mut text = serde_json::to_string(&response).unwrap_or_default();
        text.push('\n');
        writer.write_all(text.as_bytes()).await
    };
    match tokio::time::timeout(Duration::from_secs(5), work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "control client failed"),
        Err(_) => debug!("control client too slow"),
    }
}
