//! Real daemons each in a network namespace of its own, on a bridge with cables that can be pulled.
//! Needs root and `ip` (iproute2); elsewhere it says that it was skipped, and tests/network.rs does
//! the same through a proxy.

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::{BINARY, Cluster, Place, state_of};

const NODES: usize = 5;

struct Network {
    name: String,
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

impl Network {
    /// A switch and `NODES` nodes at 10.77.0.1 and so on; none where that is not allowed.
    fn new() -> Option<Self> {
        let network = Self { name: format!("gossip-{}", std::process::id()) };
        let switch = network.switch();
        if !ip(&format!("netns add {switch}")) {
            return None;
        }
        must(&format!("-n {switch} link add bridge type bridge"));
        must(&format!("-n {switch} link set bridge up"));
        for i in 0..NODES {
            let node = network.node(i);
            must(&format!("netns add {node}"));
            must(&format!("-n {switch} link add port{i} type veth peer name eth0 netns {node}"));
            must(&format!("-n {switch} link set port{i} master bridge"));
            must(&format!("-n {node} addr add 10.77.0.{}/24 dev eth0", i + 1));
            must(&format!("-n {node} link set eth0 up"));
            must(&format!("-n {node} link set lo up"));
            network.cable(i, true);
        }
        Some(network)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn node(&self, i: usize) -> String {
        format!("{}-{i}", self.name)
    }

    /// Plugs a node's cable in, or pulls it.
    fn cable(&self, i: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        must(&format!("-n {} link set port{i} {state}", self.switch()));
    }
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments} failed");
}

impl Drop for Network {
    fn drop(&mut self) {
        for i in 0..NODES {
            ip(&format!("netns del {}", self.node(i)));
        }
        ip(&format!("netns del {}", self.switch()));
    }
}

#[test]
fn a_node_whose_cable_is_pulled_is_given_up_and_taken_back() {
    let Some(network) = Network::new() else {
        eprintln!("skipped: no network namespaces here (they need root and iproute2)");
        return;
    };
    let places = (1..=NODES).map(|i| Place {
        listen: SocketAddr::from(([0, 0, 0, 0], 7600)),
        advertise: SocketAddr::from(([10, 77, 0, i as u8], 7600)),
    });
    let mut cluster = Cluster::at(places.collect(), 400, "");
    let names: Vec<String> = (0..NODES).map(|i| network.node(i)).collect();
    cluster.wrapper = Box::new(move |i| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &names[i], BINARY]);
        command
    });
    (0..NODES).for_each(|i| cluster.start(i));
    for i in 0..NODES {
        cluster.wait_alive(i, NODES);
    }
    network.cable(2, false);
    let lonely = cluster.addrs[2];
    for i in [0, 1, 3, 4] {
        cluster.wait(i, "loss of node 2", |s| state_of(s, lonely) == Some("dead"));
    }
    cluster.wait_alive(2, 1);
    network.cable(2, true);
    for i in 0..NODES {
        cluster.wait_alive(i, NODES);
    }
}
