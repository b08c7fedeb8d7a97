//! Whole nodes over a simulated network: latency, loss, partitions, stalls, deaths and restarts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;

use gossip_core::board::Micros;
use gossip_core::node::wire::Packet;
use gossip_core::node::{Event, Member, Node, Output, Settings};
use gossip_core::rng::Rng;

/// One second.
pub const SECOND: Micros = 1_000_000;
/// What a socket holds for a process that does not run.
const SOCKET_QUEUE: usize = 4_096;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Tick(usize, u32),
    Deliver(usize, usize),
    Resume(usize, u32),
}

struct Host {
    node: Node,
    /// Counts lives, so that events for an earlier one are void.
    life: u32,
    alive: bool,
    stalled_until: Micros,
    backlog: Vec<(usize, Packet)>,
    group: u32,
    /// Through whom it joins, and when it last asked.
    seed: SocketAddr,
    asked_at: Micros,
}

/// A simulated cluster.
pub struct Cluster {
    settings: Settings,
    hosts: Vec<Host>,
    queue: BinaryHeap<Reverse<(Micros, u64, What)>>,
    packets: HashMap<u64, Packet>,
    by_addr: HashMap<SocketAddr, usize>,
    sequence: u64,
    now: Micros,
    rng: Rng,
    /// Fraction of packets lost.
    pub loss: f64,
    /// What the nodes reported: time, reporting host, event.
    pub events: Vec<(Micros, usize, Event)>,
    /// Packets sent.
    pub sent: u64,
}

fn addr_of(host: usize) -> SocketAddr {
    let [.., high, middle, low] = (host as u32).to_be_bytes();
    SocketAddr::from(([10, high, middle, low], 7600))
}

impl Cluster {
    /// `count` nodes that all join through host 0.
    pub fn new(settings: Settings, count: usize, seed: u64) -> Self {
        let mut cluster = Self {
            settings,
            hosts: Vec::new(),
            queue: BinaryHeap::new(),
            packets: HashMap::new(),
            by_addr: (0..count).map(|host| (addr_of(host), host)).collect(),
            sequence: 0,
            now: 0,
            rng: Rng::new(seed, 0),
            loss: 0.0,
            events: Vec::new(),
            sent: 0,
        };
        for host in 0..count {
            let node = cluster.start(host, 1);
            cluster.hosts.push(Host {
                node,
                life: 0,
                alive: true,
                stalled_until: 0,
                backlog: Vec::new(),
                group: 0,
                seed: addr_of(0),
                asked_at: 0,
            });
            cluster.hosts[host].node.join(&[addr_of(0)], 0);
            cluster.flush(host);
            let phase = cluster.rng.below(125_000);
            cluster.schedule(phase, What::Tick(host, 0));
        }
        cluster
    }

    fn start(&mut self, host: usize, incarnation: u64) -> Node {
        let me = Member { addr: addr_of(host), incarnation };
        Node::new(self.settings.clone(), me, self.rng.next(), self.now)
    }

    fn schedule(&mut self, at: Micros, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, what)));
    }

    /// The present time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The node on `host`.
    pub fn node(&self, host: usize) -> &Node {
        &self.hosts[host].node
    }

    /// The address of `host`.
    pub fn addr(&self, host: usize) -> SocketAddr {
        addr_of(host)
    }

    /// Number of hosts, dead ones included.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are no hosts.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Kills a host.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].alive = false;
        self.hosts[host].life += 1;
        self.hosts[host].backlog.clear();
    }

    /// Starts a killed host again; it joins through any live one.
    pub fn restart(&mut self, host: usize) {
        let incarnation = 1 + self.now;
        let node = self.start(host, incarnation);
        let seed = (0..self.len()).find(|&other| other != host && self.hosts[other].alive);
        let this = &mut self.hosts[host];
        this.node = node;
        this.alive = true;
        this.stalled_until = 0;
        this.life += 1;
        let (now, life) = (self.now, this.life);
        if let Some(seed) = seed {
            (this.seed, this.asked_at) = (addr_of(seed), now);
            this.node.join(&[this.seed], now);
        }
        self.flush(host);
        self.schedule(now, What::Tick(host, life));
    }

    /// Stops a host from running for `duration`; its socket keeps what arrives.
    pub fn stall(&mut self, host: usize, duration: Micros) {
        let until = self.now + duration;
        if self.hosts[host].alive && until > self.hosts[host].stalled_until {
            self.hosts[host].stalled_until = until;
            let life = self.hosts[host].life;
            self.schedule(until, What::Resume(host, life));
        }
    }

    /// Whether a host is stalled now.
    pub fn is_stalled(&self, host: usize) -> bool {
        self.hosts[host].stalled_until > self.now
    }

    /// Puts hosts into groups that cannot reach each other; the rest is group 0.
    pub fn partition(&mut self, groups: &BTreeMap<usize, u32>) {
        for (host, state) in self.hosts.iter_mut().enumerate() {
            state.group = groups.get(&host).copied().unwrap_or(0);
        }
    }

    /// Whether every live node has exactly the other live ones as members.
    pub fn is_converged(&self) -> bool {
        let live = self.hosts.iter().filter(|h| h.alive).count();
        self.hosts.iter().filter(|h| h.alive).all(|host| {
            host.node.members().count() == live - 1
                && host.node.members().all(|m| self.hosts[self.by_addr[&m.addr]].alive)
        })
    }

    /// Runs for `duration`.
    pub fn run(&mut self, duration: Micros) {
        let end = self.now + duration;
        while let Some(Reverse((at, ..))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, sequence, what))) = self.queue.pop() else {
                break;
            };
            self.now = at;
            self.happen(sequence, what);
        }
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`; tells whether it came to that.
    pub fn run_until(&mut self, limit: Micros, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.run(SECOND / 4);
        }
        done(self)
    }

    fn happen(&mut self, sequence: u64, what: What) {
        match what {
            What::Tick(host, life) => {
                if self.hosts[host].life != life || !self.hosts[host].alive {
                    return;
                }
                let stalled_until = self.hosts[host].stalled_until;
                if stalled_until > self.now {
                    // After what waits in the socket.
                    self.schedule(stalled_until + 1, What::Tick(host, life));
                    return;
                }
                self.hosts[host].node.tick(self.now);
                self.join_again(host);
                self.flush(host);
                let next = self.now + self.hosts[host].node.tick_interval();
                self.schedule(next, What::Tick(host, life));
            }
            What::Deliver(from, to) => {
                let Some(packet) = self.packets.remove(&sequence) else {
                    return;
                };
                let now = self.now;
                let host = &mut self.hosts[to];
                if !host.alive {
                    return;
                }
                if host.stalled_until > now {
                    if host.backlog.len() < SOCKET_QUEUE {
                        host.backlog.push((from, packet));
                    }
                    return;
                }
                host.node.receive(now, addr_of(from), packet);
                self.flush(to);
            }
            What::Resume(host, life) => {
                if self.hosts[host].life != life || self.is_stalled(host) {
                    return;
                }
                for (from, packet) in std::mem::take(&mut self.hosts[host].backlog) {
                    self.hosts[host].node.receive(self.now, addr_of(from), packet);
                }
                self.flush(host);
            }
        }
    }

    /// As the daemon does: who knows of nobody asks again once a second.
    fn join_again(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        if this.node.members().next().is_none() && this.asked_at + SECOND <= self.now {
            this.asked_at = self.now;
            this.node.join(&[this.seed], self.now);
        }
    }

    fn flush(&mut self, from: usize) {
        for output in self.hosts[from].node.drain() {
            match output {
                Output::Event(event) => self.events.push((self.now, from, event)),
                Output::Send(addr, packet) => {
                    self.sent += 1;
                    let Some(&to) = self.by_addr.get(&addr) else {
                        continue;
                    };
                    let apart = self.hosts.get(to).map(|h| h.group) != Some(self.hosts[from].group);
                    if apart || self.rng.unit() < self.loss {
                        continue;
                    }
                    // 50 to 550 µs, so that packets overtake each other.
                    let at = self.now + 50 + self.rng.below(500);
                    self.schedule(at, What::Deliver(from, to));
                    self.packets.insert(self.sequence, packet);
                }
            }
        }
    }
}
