//! `gossip-mgr run`: one node on a real network.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use gossip_core::board::{Micros, expected_age};
use gossip_core::detector::Verdict;
use gossip_core::node::wire::Packet;
use gossip_core::node::{Event, Member, Node, Output};
use gossip_core::report::Report;
use gossip_core::seal::{MAX_DATAGRAM, Opener, Rejected, Sealer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UdpSocket, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use crate::advice::{Adviser, decide};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::incarnation;
use crate::metrics::{Failure, Label, Metrics};
use crate::sensors::Sensors;
use crate::view::{Explained, NodeStatus, Status};
use crate::{config::ConfigError, key, key::KeyError};

/// Time between two occasions to join; while no other node is known each is used.
const JOIN_AGAIN: Duration = Duration::from_secs(1);
/// Occasions to join after which it is told that no seed answers.
const JOINS_BEFORE_WARNING: u32 = 5;
/// Every so many occasions seeds that are no members are asked although other nodes are known: the two
/// sides of a partition that lasted long have forgotten each other.
const ASK_ABSENT_SEEDS: u32 = 10;
/// Datagrams that are taken in one go. More may wait, but so does what is to be done by the clock.
const BATCH: usize = 256;

/// Why the daemon did not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The agent of checkpoints cannot start as it is configured.
    #[error(transparent)]
    Checkpoint(#[from] gossip_checkpoint::agent::StartError),
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
    metrics: Metrics,
    adviser: Adviser,
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
    /// The nodes that are shown, dead ones too until they are forgotten, with their incarnations.
    known: BTreeMap<SocketAddr, u64>,
    /// Occasions to join, all and since another node was known.
    joins: u32,
    joins_alone: u32,
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
    // Its threads end with the process; the socket goes with it.
    let is_failing = Arc::<AtomicBool>::default();
    let section = config.checkpoint.as_ref();
    let _agent = section.map(|section| section.start(&key, Arc::clone(&is_failing))).transpose()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let local = tokio::task::LocalSet::new();
    Ok(local.block_on(&runtime, serve(config, key, is_failing))?)
}

async fn serve(config: Config, key: gossip_core::seal::Key, is_failing: Arc<AtomicBool>) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(config.node.listen)
        .await
        .with_context(|| format!("node.listen: cannot bind UDP {}", config.node.listen))?;
    let (control, _guard) = control::listen(&config.control.socket)?;
    let socket_path = config.control.socket.display().to_string();
    let metrics = Metrics::default();
    if let Some(listen) = config.metrics.listen {
        metrics.serve(listen).await?;
    }
    let addr = config.advertised();
    let incarnation = incarnation::next(&config.node.state_dir, addr);
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
        adviser: Adviser::new(config.advice.clone(), &metrics).context("cannot start the audit log's thread")?,
        node,
        sealer: Sealer::new(key.clone(), addr, incarnation),
        opener: Opener::new(key, addr),
        begin: Instant::now(),
        metrics,
        outgoing: Vec::new(),
        known: BTreeMap::new(),
        joins: 0,
        joins_alone: 0,
        config,
    }));
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        // Which of those that are ready comes first is left to chance, so that no flood starves the others.
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            readable = socket.readable() => {
                readable?;
                drain(&socket, &daemon, &mut buffer);
                // While the socket never runs dry, only this lets the runtime look at the clock and at other sockets.
                yield_now().await;
            }
            _ = tick.tick() => {
                // What waits in the socket is older than this tick and may be news.
                drain(&socket, &daemon, &mut buffer);
                daemon.borrow_mut().tick();
            }
            _ = sense.tick() => {
                let report = sensors.read();
                is_failing.store(report.health.hot, Ordering::Relaxed);
                daemon.borrow_mut().sensed(report);
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
    for _ in 0..BATCH {
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
        let metrics = &daemon.borrow().metrics;
        match sent {
            Ok(_) => metrics.sent.inc(),
            Err(_) => metrics.failures(Failure::Send).inc(),
        };
    }
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
                self.metrics.received.inc();
                self.node.receive(now, from, packet);
                self.collect();
            }
            Err(rejected) => {
                self.metrics.dropped(rejected);
                debug!(%rejected, "datagram dropped");
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        self.node.tick(now);
        self.collect();
    }

    fn sensed(&mut self, report: Report) {
        self.metrics.failures(Failure::Sensors).inc_by(report.health.sensors_failed.into());
        self.node.set_report(report);
    }

    fn join(&mut self) {
        let seeds = self.absent_seeds();
        let alone = self.node.members().next().is_none();
        if alone || self.joins.is_multiple_of(ASK_ABSENT_SEEDS) {
            let now = self.now();
            self.node.join(&seeds, now);
            self.collect();
        }
        self.joins += 1;
        self.joins_alone = if alone { self.joins_alone + 1 } else { 0 };
        if self.joins_alone == JOINS_BEFORE_WARNING && !seeds.is_empty() {
            warn!(?seeds, "no seed has answered: is gossip-mgr running there, with the same key? Asking on");
        }
        self.tell_metrics();
    }

    fn tell_metrics(&self) {
        let status = self.status();
        for what in ["alive", "suspect", "dead"] {
            let count = status.nodes.iter().filter(|n| n.state == what).count();
            self.metrics.nodes.get_or_create(&Label { what }).set(count as i64);
        }
        self.metrics.mean_age.set(status.mean_age_s.unwrap_or_default());
        self.metrics.local_health.set(status.local_health.into());
    }

    /// The seeds that are no members.
    fn absent_seeds(&self) -> Vec<SocketAddr> {
        let me = self.node.me().addr;
        let is_member = |seed| self.node.members().any(|member| member.addr == seed);
        self.config.node.seeds.iter().copied().filter(|&seed| seed != me && !is_member(seed)).collect()
    }

    /// The same while no other node is known; later none.
    fn unanswered_seeds(&self) -> Vec<SocketAddr> {
        match self.node.members().next() {
            None => self.absent_seeds(),
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
        self.adviser.take(me, advice);
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
            Event::Forgotten(node) => {
                self.known.remove(&node);
                info!(%node, "dead node forgotten");
            }
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
        let near: BTreeSet<SocketAddr> = self.node.colony_members().collect();
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
            counters: self.metrics.counters(),
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
