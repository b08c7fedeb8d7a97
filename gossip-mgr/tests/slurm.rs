//! `gossip-mgr job run --launcher srun` with a program in srun's place: it takes what Slurm's takes, refuses all else, and
//! starts the ranks without MPI. Slurm itself was not here.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{BINARY, PATIENCE, free_addrs, wait_for, write_key};

/// Ranks are on the nodes of the host file, as `--distribution=arbitrary` says, and if one fails all do.
const SRUN: &str = r#"#!/bin/sh
count= arbitrary= kill=
while :; do
    case $1 in
        --distribution=arbitrary) arbitrary=1 ;;
        --ntasks) count=$2; shift ;;
        --kill-on-bad-exit=1) kill=1 ;;
        --no-kill) ;;
        --mpi=pmix) ;;
        -*) echo "srun: unrecognized option '$1'" >&2; exit 1 ;;
        *) break ;;
    esac
    shift
done
[ "$arbitrary$kill" = 11 ] && [ "$(wc -l <"$SLURM_HOSTFILE")" = "$count" ] || exit 1
rank=0
pids=
while read -r host; do
    SLURM_PROCID=$rank SLURMD_NODENAME=$host "$@" &
    pids="$pids $!"
    rank=$((rank + 1))
done <"$SLURM_HOSTFILE"
status=0
for pid in $pids; do
    wait "$pid" || status=1
done
exit $status
"#;

/// Each rank tells where it is, and at the first start one fails.
const PROGRAM: &str = r#"#!/bin/sh
echo "$SLURM_PROCID $SLURMD_NODENAME $GOSSIP_CHECKPOINT_SOCKET $SCR_JOB_NAME" >>"$1/told$GOSSIP_JOB_RESTARTED"
[ "$GOSSIP_JOB_RESTARTED$SLURM_PROCID" != 01 ]
"#;

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

struct Daemons(Vec<Child>);

impl Drop for Daemons {
    fn drop(&mut self) {
        for daemon in &mut self.0 {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn srun_starts_each_rank_on_its_node_with_its_agent_and_again_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_key(&at("key"), 5);
    // The second one's folder has a name that a shell would take apart.
    fs::create_dir(at("it's $HOME")).unwrap();
    let sockets = [at("agent0"), at("it's $HOME/agent1")];
    let gossip = free_addrs(2);
    let held: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let node = |node: usize| {
        let (address, socket) = (held[node].local_addr().unwrap(), sockets[node].display());
        format!(
            "{{ name = 'n{node}', host = 'host{node}', address = '{address}', gossip = '{}', socket = \"{socket}\", slots = 2 }},\n",
            gossip[node]
        )
    };
    let nodes: String = (0..2).map(node).collect();
    for node in 0..2 {
        let path = |name: &str| at(&format!("{name}{node}")).display().to_string();
        let config = format!(
            "[node]\nlisten = '{}'\nseeds = ['{}']\nkey_file = '{}'\nstate_dir = '{}'\n[detection]\n{}\n[control]\nsocket = '{}'\n\
             [checkpoint]\nnode = 'n{node}'\nstore = '{}'\nsocket = \"{}\"\nnodes = [\n{nodes}]\n",
            gossip[node],
            gossip[1 - node],
            at("key").display(),
            path("state"),
            common::PERIOD,
            path("control"),
            path("store"),
            sockets[node].display(),
        );
        fs::write(at(&format!("{node}.toml")), config).unwrap();
    }
    drop(held);
    let start = |node: usize| {
        let mut command = Command::new(BINARY);
        command.args(["run", "--config"]).arg(at(&format!("{node}.toml"))).stderr(Stdio::null()).spawn().unwrap()
    };
    let _daemons = Daemons((0..2).map(start).collect());
    wait_for("both agents", || sockets.iter().all(|socket| socket.exists()).then_some(()));

    fs::create_dir(at("bin")).unwrap();
    write_program(&at("bin/srun"), SRUN);
    write_program(&at("program"), PROGRAM);
    let mut job = Command::new(BINARY)
        .args([
            "job",
            "run",
            "--launcher",
            "srun",
            "--launcher-arg=--mpi=pmix",
            "--name",
            "j",
            "--ranks",
            "3",
            "--config",
        ])
        .arg(at("0.toml"))
        .arg("--")
        .arg(at("program"))
        .arg(dir.path())
        .env("PATH", format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = std::time::Instant::now();
    let status = loop {
        if let Some(status) = job.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() >= PATIENCE {
            job.kill().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert!(status.success());
    // The ranks go where most room is.
    let expected: Vec<String> = [(0, 0), (1, 1), (2, 0)]
        .iter()
        .map(|&(rank, node)| format!("{rank} host{node} {} j", sockets[node].display()))
        .collect();
    for start in ["told0", "told1"] {
        let told = fs::read_to_string(at(start)).unwrap();
        let mut told: Vec<&str> = told.lines().collect();
        told.sort_unstable();
        assert_eq!(told, expected, "{start}");
    }
    assert!(!at("told2").exists());
}
