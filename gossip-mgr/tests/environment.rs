//! Tests that need more of the machine than others: root's rights and a program, or a program. Where that is
//! missing they are reported as ignored, not as passed; `mk setup` installs the programs.
//!
//! - Real daemons each in a network namespace of its own, on a bridge with cables that can be pulled.
//!   tests/network.rs does the same through a proxy, everywhere.
//! - The unit of systemd, checked by systemd itself. `mk test gossip` also runs it.
//! - A partitioner that dies, and a comparison that is interrupted, where those are installed that diffusion is compared with.

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};

use common::{BINARY, Cluster, PERIOD, Place, state_of, wait_for};
use gossip_mgr::shock::missing_packages;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NODES: usize = 5;

struct Network {
    name: String,
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

impl Network {
    /// Whether this machine allows it.
    fn is_possible() -> bool {
        let name = format!("gossip-{}-possible", std::process::id());
        ip(&format!("netns add {name}")) && ip(&format!("netns del {name}"))
    }

    /// A switch and `NODES` nodes at 10.77.0.1 and so on.
    fn new() -> Self {
        let network = Self { name: format!("gossip-{}", std::process::id()) };
        let switch = network.switch();
        must(&format!("netns add {switch}"));
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
        network
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

fn a_node_whose_cable_is_pulled_is_given_up_and_taken_back() {
    let network = Network::new();
    let places = (1..=NODES).map(|i| Place {
        listen: SocketAddr::from(([0, 0, 0, 0], 7600)),
        advertise: SocketAddr::from(([10, 77, 0, i as u8], 7600)),
    });
    let mut cluster = Cluster::at(places.collect(), PERIOD, "");
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

fn the_systemd_unit_is_one_that_systemd_takes() {
    let dir = tempfile::tempdir().unwrap();
    let unit = include_str!("../dist/gossip-mgr.service");
    assert!(unit.contains("ExecStart=/usr/local/bin/gossip-mgr run"));
    let path = dir.path().join("gossip-mgr.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/gossip-mgr", BINARY)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

fn a_partitioner_that_dies_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // The compiler makes a program that is killed as soon as it runs.
    let compiler = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then
        printf '#!/bin/sh\nkill -KILL $$\n' >"$2" && chmod +x "$2"
    fi
    shift
done
"#;
    let path = dir.path().join("mpicc");
    std::fs::write(&path, compiler).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let programs = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(BINARY)
        .args(["simulate", "shock", "--mesh", "40x20x20", "--steps", "4", "--parts", "8", "--samples", "1"])
        .env("PATH", programs)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ended early (signal: 9"), "{said}");
}

fn an_interrupted_comparison_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut comparison = Command::new(BINARY)
        .args(["simulate", "shock", "--parts", "48", "--mesh", "80x40x40", "--against", "metis"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let entries = || dir.path().read_dir().unwrap().collect::<Vec<_>>();
    let program = wait_for("start of the partitioners", || {
        let folder = entries().into_iter().next()?.unwrap().path();
        let children = format!("/proc/{0}/task/{0}/children", comparison.id());
        let pid: i32 = std::fs::read_to_string(children).unwrap().trim().parse().ok()?;
        let runs = std::fs::read_link(format!("/proc/{pid}/exe")).ok()? == folder.join("opponents");
        runs.then_some(pid)
    });
    kill(Pid::from_raw(i32::try_from(comparison.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(comparison.wait().unwrap().code(), Some(130));
    assert!(kill(Pid::from_raw(program), None).is_err(), "the partitioners live on");
    assert!(entries().is_empty(), "{:?}", entries());
}

fn main() {
    let trial = |name: &str, test: fn(), needs: &str, there: bool| {
        let run = move || {
            test();
            Ok(())
        };
        let trial = Trial::test(name, run).with_ignored_flag(!there);
        if there { trial } else { trial.with_kind(format!("needs {needs}")) }
    };
    let analyze = Command::new("systemd-analyze").arg("--version").output().is_ok();
    let trials = vec![
        trial(
            "a_node_whose_cable_is_pulled_is_given_up_and_taken_back",
            a_node_whose_cable_is_pulled_is_given_up_and_taken_back,
            "root and iproute2",
            Network::is_possible(),
        ),
        trial(
            "the_systemd_unit_is_one_that_systemd_takes",
            the_systemd_unit_is_one_that_systemd_takes,
            "systemd-analyze",
            analyze,
        ),
        trial(
            "a_partitioner_that_dies_is_told",
            a_partitioner_that_dies_is_told,
            "METIS, Scotch, Zoltan and Open MPI",
            missing_packages().is_empty(),
        ),
        trial(
            "an_interrupted_comparison_leaves_nothing_behind",
            an_interrupted_comparison_leaves_nothing_behind,
            "METIS, Scotch, Zoltan and Open MPI",
            missing_packages().is_empty(),
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
