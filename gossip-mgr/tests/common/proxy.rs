//! A network between daemons on loopback that can be partitioned, lose, record and replay. Each daemon
//! advertises a socket of the proxy, which passes datagrams on to where the daemon listens. It needs
//! no privilege, so it runs everywhere.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gossip_core::rng::Rng;

use super::{Place, free_addrs};

struct Rules {
    /// Nodes of different groups do not reach each other.
    groups: Vec<u32>,
    /// Share of datagrams that is lost.
    loss: f64,
    rng: Rng,
    /// What was passed on to each node: sender and datagram.
    recorded: Vec<Vec<(usize, Vec<u8>)>>,
    lost: u64,
    stop: bool,
}

pub struct Proxy {
    places: Vec<Place>,
    rules: Arc<Mutex<Rules>>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    pub fn new(count: usize) -> Self {
        let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let places: Vec<Place> = free_addrs(count)
            .into_iter()
            .zip(&sockets)
            .map(|(listen, socket)| Place { listen, advertise: socket.local_addr().unwrap() })
            .collect();
        let rules = Arc::new(Mutex::new(Rules {
            groups: vec![0; count],
            loss: 0.0,
            rng: Rng::new(1, 0),
            recorded: vec![Vec::new(); count],
            lost: 0,
            stop: false,
        }));
        let by_addr: HashMap<SocketAddr, usize> = places.iter().map(|p| p.listen).zip(0..).collect();
        let threads = (0..count)
            .zip(sockets)
            .map(|(to, socket)| {
                let (rules, by_addr) = (Arc::clone(&rules), by_addr.clone());
                let listen = places[to].listen;
                std::thread::spawn(move || pass_on(&socket, to, listen, &by_addr, &rules))
            })
            .collect();
        Self { places, rules, threads }
    }

    pub fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    /// Nodes with different numbers do not reach each other from now on.
    pub fn partition(&self, groups: &[u32]) {
        self.rules.lock().unwrap().groups = groups.to_vec();
    }

    /// Loses this share of all datagrams from now on.
    pub fn lose(&self, share: f64) {
        self.rules.lock().unwrap().loss = share;
    }

    pub fn lost(&self) -> u64 {
        self.rules.lock().unwrap().lost
    }

    /// What `to` got from `from` so far.
    pub fn recorded(&self, from: usize, to: usize) -> Vec<Vec<u8>> {
        let recorded = &self.rules.lock().unwrap().recorded[to];
        recorded.iter().filter(|(sender, _)| *sender == from).map(|(_, datagram)| datagram.clone()).collect()
    }

    /// Sends a datagram to `to`, whoever made it.
    pub fn inject(&self, to: usize, datagram: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(datagram, self.places[to].listen).unwrap();
    }
}

fn pass_on(
    socket: &UdpSocket,
    to: usize,
    listen: SocketAddr,
    by_addr: &HashMap<SocketAddr, usize>,
    rules: &Mutex<Rules>,
) {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = vec![0; 65_536];
    loop {
        let received = socket.recv_from(&mut buffer);
        let mut rules = rules.lock().unwrap();
        if rules.stop {
            return;
        }
        // Errors are time-outs, and refusals by a daemon that is dead.
        let Ok((length, source)) = received else {
            continue;
        };
        let Some(&from) = by_addr.get(&source) else {
            continue;
        };
        let apart = rules.groups[from] != rules.groups[to];
        if apart || rules.rng.unit() < rules.loss {
            rules.lost += 1;
            continue;
        }
        let datagram = &buffer[..length];
        rules.recorded[to].push((from, datagram.to_vec()));
        let _ = socket.send_to(datagram, listen);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.rules.lock().unwrap().stop = true;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
