//! Nodes of a cluster on this machine: each a network namespace with a host name of its own, where that is allowed; else all
//! at loopback.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Pid;

/// Set in the process that has namespaces of its own.
const INSIDE: &str = "FAULTS_INSIDE";
/// What mpirun starts its daemon on another node with.
const AGENT: &str = "#!/bin/sh
host=$1
shift
exec nsenter --net=/run/netns/$host unshare --uts sh -c 'hostname $0 && eval \"$1\"' $host \"$*\"
";

/// Whether this process may have namespaces: then they go with it.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test `name` in namespaces of its own; none if that is not allowed here, or it is there already.
pub fn run_inside(name: &str) -> Option<Command> {
    let unshare = |program: &OsStr| {
        let mut command = Command::new("unshare");
        command.arg("-rmn").arg(program);
        command
    };
    let probe = unshare("true".as_ref()).stderr(Stdio::null()).status();
    if is_inside() || !probe.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = unshare(std::env::current_exe().unwrap().as_os_str());
    command.args(["--exact", name]).env(INSIDE, "1");
    Some(command)
}

/// The nodes.
pub struct Nodes {
    /// The program with which mpirun reaches them; none if they are no namespaces.
    agent: Option<PathBuf>,
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("ip: install iproute2").success(), "ip {arguments} failed");
}

impl Nodes {
    pub fn new(dir: &Path, count: usize) -> Self {
        if !is_inside() {
            return Self { agent: None };
        }
        // The names of network namespaces, and others' rights in the real folder, are not ours.
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status();
        assert!(mounted.unwrap().success());
        fs::create_dir("/run/netns").unwrap();
        ip("link set lo up");
        ip("link add bridge type bridge");
        ip("link set bridge up");
        for node in 0..count {
            ip(&format!("netns add n{node}"));
            ip(&format!("link add port{node} type veth peer name eth0 netns n{node}"));
            ip(&format!("link set port{node} master bridge up"));
            ip(&format!("-n n{node} addr add 10.77.0.{}/24 dev eth0", node + 1));
            ip(&format!("-n n{node} link set eth0 up"));
            ip(&format!("-n n{node} link set lo up"));
        }
        let agent = dir.join("agent");
        fs::write(&agent, AGENT).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        Self { agent: Some(agent) }
    }

    pub fn address(&self, node: usize) -> IpAddr {
        match self.agent {
            Some(_) => Ipv4Addr::new(10, 77, 0, 1 + node as u8).into(),
            None => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// What mpirun calls it.
    pub fn host(&self, node: usize) -> Option<String> {
        self.agent.as_ref().map(|_| format!("n{node}"))
    }

    /// A command on a node; what it starts has its process id.
    pub fn command(&self, node: usize, program: &str) -> Command {
        if self.agent.is_none() {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/n{node}")).arg(program);
        command
    }

    /// How Open MPI gets from node to node.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("OMPI_MCA_mpi_yield_when_idle", "1".to_owned())];
        match &self.agent {
            Some(agent) => {
                settings.push(("OMPI_MCA_plm_rsh_agent", agent.display().to_string()));
                settings.push(("OMPI_MCA_btl", "self,tcp".into()));
                for name in ["OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include"] {
                    settings.push((name, "10.77.0.0/24".into()));
                }
            }
            None => settings.push(("OMPI_MCA_btl", "self,vader,tcp".into())),
        }
        settings
    }

    /// All processes of a node, mpirun's among them; none are known if it is no namespace.
    pub fn processes(&self, node: usize) -> Vec<Pid> {
        if self.agent.is_none() {
            return Vec::new();
        }
        let output = Command::new("ip").args(["netns", "pids", &format!("n{node}")]).output().unwrap();
        let pids = String::from_utf8(output.stdout).unwrap();
        pids.lines().map(|pid| Pid::from_raw(pid.trim().parse().unwrap())).collect()
    }
}
