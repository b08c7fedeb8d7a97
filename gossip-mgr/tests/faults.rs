//! A heat equation on eight nodes and random faults: the result is bit for bit that of the undisturbed run.
//!
//! `FAULTS=200 FAULTS_SEED=7 cargo test -p gossip-mgr --test faults -- --nocapture` does as many as one likes and tells of
//! each. Each node is a daemon with a store of its own on a small file system in memory, and its ranks; two nodes are spare,
//! and one without ranks starts the job.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{BINARY, PATIENCE, free_addrs, wait_for, write_key};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const RANKS: usize = 8;
const NODES: usize = 10;
/// The node that starts the job.
const HEAD: usize = NODES;
const FAULTS_OF_A_RUN: usize = 11;
const INSIDE: &str = "FAULTS_INSIDE";

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Rank,
    Node,
    Partners,
    Minority,
    DiskFull,
    TornWrite,
    BitFlip,
    Daemon,
    Head,
    Launcher,
    Coordinator,
}

const ALL: [Fault; 11] = [
    Fault::Rank,
    Fault::BitFlip,
    Fault::DiskFull,
    Fault::Node,
    Fault::Daemon,
    Fault::TornWrite,
    Fault::Partners,
    Fault::Head,
    Fault::Coordinator,
    Fault::Minority,
    Fault::Launcher,
];

struct Cluster {
    dir: tempfile::TempDir,
    daemons: Vec<Option<Child>>,
    coordinator: Option<Child>,
    is_small: bool,
    job: Option<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut job) = self.job.take() {
            let _ = kill(Pid::from_raw(job.id() as i32), Signal::SIGTERM);
            let _ = job.wait();
        }
        for daemon in self.daemons.iter_mut().chain([&mut self.coordinator]).flatten() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for node in 0..=HEAD {
            let _ = Command::new("umount").arg(self.store(node)).stderr(Stdio::null()).status();
        }
    }
}

/// The processes with `text` in their environment and of this program.
fn processes(program: &str, text: &str) -> Vec<Pid> {
    let of = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let is_program = fs::read_to_string(entry.path().join("comm")).ok()?.trim() == program;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let has = String::from_utf8_lossy(&environment).split('\0').any(|entry| entry == text);
        (is_program && has).then(|| Pid::from_raw(pid))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

/// Some may have ended by themselves.
fn end_all(processes: &[Pid]) {
    for &process in processes {
        let _ = kill(process, Signal::SIGKILL);
    }
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_key(&at("key"), 9);
        fs::create_dir(at("shared")).unwrap();
        let gossip = free_addrs(NODES + 1);
        let held: Vec<TcpListener> = (0..=NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let node = |node: usize| {
            // Neighbours share a power supply.
            let shares = if node == HEAD { String::new() } else { format!("'power{}'", node / 2) };
            format!(
                "{{ name = 'n{node}', address = '{}', gossip = '{}', socket = '{}', shares = [{shares}], slots = {} }},\n",
                held[node].local_addr().unwrap(),
                gossip[node],
                at(&format!("agent{node}")).display(),
                usize::from(node != HEAD),
            )
        };
        let nodes: String = (0..=NODES).map(node).collect();
        for node in 0..=NODES {
            let path = |name: &str| at(&format!("{name}{node}")).display().to_string();
            let config = format!(
                "[node]\nlisten = '{}'\nseeds = ['{}', '{}']\nkey_file = '{}'\nstate_dir = '{}'\n\
                 [detection]\n{}\n[control]\nsocket = '{}'\n\
                 [checkpoint]\nnode = 'n{node}'\nstore = '{}'\nshared = '{}'\nsocket = '{}'\nfailing_file = '{}'\ncoordinator = '{}'\n\
                 nodes = [\n{nodes}]\nlevels = [\n\
                 {{ kind = 'local', interval_s = 0.15 }},\n{{ kind = 'xor', group = 4, interval_s = 0.4 }},\n\
                 {{ kind = 'partner', interval_s = 0.7 }},\n\
                 {{ kind = 'reed_solomon', group = 4, parities = 2, interval_s = 1.0 }},\n\
                 {{ kind = 'shared', interval_s = 3.0 }},\n]\n",
                gossip[node],
                gossip[0],
                gossip[HEAD],
                at("key").display(),
                path("state"),
                common::PERIOD,
                path("control"),
                path("store"),
                at("shared").display(),
                path("agent"),
                path("failing"),
                at("coordinator").display(),
            );
            fs::write(at(&format!("{node}.toml")), config).unwrap();
            fs::create_dir(at(&format!("store{node}"))).unwrap();
        }
        drop(held);
        let mut cluster =
            Self { dir, daemons: (0..=NODES).map(|_| None).collect(), coordinator: None, is_small: true, job: None };
        cluster.start_coordinator();
        for node in 0..=NODES {
            cluster.is_small &= cluster.mount(node);
            cluster.start(node);
        }
        cluster
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self, node: usize) -> PathBuf {
        self.at(&format!("store{node}"))
    }

    /// A small file system in memory for a node's store, where that is allowed.
    fn mount(&self, node: usize) -> bool {
        if std::env::var_os(INSIDE).is_none() {
            return false;
        }
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(self.store(node)).status();
        mounted.is_ok_and(|status| status.success())
    }

    fn start(&mut self, node: usize) {
        let log = fs::File::options().create(true).append(true).open(self.at(&format!("log{node}"))).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["run", "--config"]).arg(self.at(&format!("{node}.toml"))).stdin(Stdio::null()).stderr(log);
        self.daemons[node] = Some(command.spawn().unwrap());
    }

    fn start_coordinator(&mut self) {
        let mut command = Command::new(BINARY);
        command.args(["coordinate", "--listen"]).arg(self.at("coordinator")).stdin(Stdio::null()).stderr(Stdio::null());
        self.coordinator = Some(command.spawn().unwrap());
    }

    fn kill_daemon(&mut self, node: usize) {
        if let Some(mut daemon) = self.daemons[node].take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    fn ranks_on(&self, node: usize) -> Vec<Pid> {
        processes("heat", &format!("GOSSIP_CHECKPOINT_SOCKET={}", self.at(&format!("agent{node}")).display()))
    }

    /// Nodes with ranks.
    fn busy(&self) -> Vec<usize> {
        (0..NODES).filter(|&node| !self.ranks_on(node).is_empty()).collect()
    }

    /// All its processes are killed, and what it stored is lost; later it comes back, empty.
    fn lose(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.kill_daemon(node);
            end_all(&self.ranks_on(node));
            for entry in fs::read_dir(self.store(node)).unwrap().flatten() {
                if entry.path().is_dir() {
                    fs::remove_dir_all(entry.path()).unwrap();
                }
            }
        }
    }

    fn launch(&mut self, heat: &Path, steps: u32, pause: u32, output: &Path) {
        let log = fs::File::options().create(true).append(true).open(self.at("job.log")).unwrap();
        let mut command = Command::new(BINARY);
        command
            .args(["job", "run", "--name", "heat", "--ranks", "8", "--futile", "30", "--config"])
            .arg(self.at(&format!("{HEAD}.toml")))
            .arg("--")
            .arg(heat)
            .args([&steps.to_string(), "64", &pause.to_string()])
            .arg(output)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .env("LD_LIBRARY_PATH", libraries())
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("OMPI_MCA_btl", "self,vader,tcp")
            .env("OMPI_MCA_mpi_yield_when_idle", "1");
        self.job = Some(command.spawn().unwrap());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("job.log")).unwrap_or_default()
    }

    /// The newest piece of any store: attempt and number.
    fn newest(&self) -> Option<(u32, u32)> {
        let mut newest = None;
        for path in self.stored() {
            let id = path.ancestors().filter_map(|folder| folder.file_name()?.to_str()).find_map(|name| {
                let mut parts = name.split('-');
                Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
            });
            newest = newest.max(id);
        }
        newest
    }

    /// Complete files of checkpoints on all nodes.
    fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> = (0..NODES).map(|node| self.store(node)).collect();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_whole = ["piece", "copy", "parity", "heat"]
                    .iter()
                    .any(|begin| entry.file_name().to_string_lossy().starts_with(begin));
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(path),
                    Ok(_) if is_whole && path.extension().is_none_or(|end| end != "unfinished") => found.push(path),
                    _ => {}
                }
            }
        }
        found
    }

    fn is_running(&mut self) -> bool {
        matches!(self.job.as_mut().unwrap().try_wait(), Ok(None))
    }

    /// Waits for checkpoints that are newer than `old`, or the job's end.
    fn go_on(&mut self, old: Option<(u32, u32)>, count: u32) {
        let begin = Instant::now();
        let mut from = old.unwrap_or_default();
        while self.is_running() {
            let now = self.newest().unwrap_or_default();
            // Another attempt may begin to count anew.
            if now.0 != from.0 {
                from = now;
            }
            if now.0 > 0 && now.1 >= from.1 + count {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "no new checkpoint:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn inject(&mut self, fault: Fault, random: &mut Random, relaunch: impl Fn(&mut Self)) {
        let busy = self.busy();
        if busy.is_empty() {
            return;
        }
        let chosen = busy[random.below(busy.len())];
        let kill_a_rank = |cluster: &Self| {
            end_all(&cluster.ranks_on(chosen));
        };
        let mut lost = Vec::new();
        match fault {
            Fault::Rank => kill_a_rank(self),
            Fault::Node => lost.push(chosen),
            // The ring of partners goes on by one, at least, and the next neighbour shares the power supply.
            Fault::Partners => lost.extend([chosen, (chosen + 2) % NODES]),
            Fault::Minority => lost.extend([chosen, busy[random.below(busy.len())]]),
            Fault::DiskFull => {
                if self.is_small {
                    let filler = self.store(chosen).join("filler");
                    // It ends when there is no room left.
                    let _ = fs::write(&filler, vec![0; 8 << 20]);
                    self.wait_for_log("was given up as rank");
                    fs::remove_file(filler).unwrap();
                }
            }
            Fault::TornWrite | Fault::BitFlip => {
                let files = self.stored();
                if !files.is_empty() {
                    let path = &files[random.below(files.len())];
                    // It may have been pruned meanwhile.
                    if let Ok(mut bytes) = fs::read(path) {
                        let place = random.below(bytes.len().max(1));
                        if fault == Fault::TornWrite {
                            bytes.truncate(place);
                        } else if let Some(byte) = bytes.get_mut(place) {
                            *byte ^= 1 << random.below(8);
                        }
                        if path.exists() {
                            let _ = fs::write(path, bytes);
                        }
                    }
                }
                kill_a_rank(self);
            }
            Fault::Daemon => {
                self.kill_daemon(chosen);
                std::thread::sleep(Duration::from_millis(300));
                self.start(chosen);
            }
            Fault::Coordinator => {
                let mut coordinator = self.coordinator.take().unwrap();
                coordinator.kill().unwrap();
                coordinator.wait().unwrap();
                kill_a_rank(self);
                self.start_coordinator();
            }
            Fault::Head => {
                self.kill_daemon(HEAD);
                kill_a_rank(self);
                std::thread::sleep(Duration::from_millis(300));
                self.start(HEAD);
            }
            Fault::Launcher => {
                // With all that it started.
                let mut job = self.job.take().unwrap();
                job.kill().unwrap();
                job.wait().unwrap();
                for node in 0..NODES {
                    end_all(&self.ranks_on(node));
                }
                relaunch(self);
            }
        }
        lost.sort_unstable();
        lost.dedup();
        if !lost.is_empty() {
            self.lose(&lost);
            let starts = self.log().matches(" starts from ").count();
            wait_for("the job is started elsewhere", || {
                let done = self.log().matches(" starts from ").count() > starts || !self.is_running();
                done.then_some(())
            });
            lost.into_iter().for_each(|node| self.start(node));
        }
    }

    fn wait_for_log(&mut self, text: &str) {
        let before = self.log().matches(text).count();
        let begin = Instant::now();
        while self.is_running() && self.log().matches(text).count() == before {
            assert!(begin.elapsed() < PATIENCE, "nobody says `{text}`:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where libscr.so is: beside the tests.
fn libraries() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    assert!(folder.join("libscr.so").exists(), "cargo builds libscr.so beside the tests");
    folder
}

fn build_heat(to: &Path) {
    let scr = concat!(env!("CARGO_MANIFEST_DIR"), "/scr");
    let status = Command::new("mpicc")
        .args(["-std=gnu11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-I{scr}/include"))
        .arg(format!("{scr}/examples/heat.c"))
        .arg("-o")
        .arg(to)
        .arg("-L")
        .arg(libraries())
        .arg("-lscr")
        .status();
    assert!(status.expect("mpicc: install libopenmpi-dev").success());
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn a_job_ends_with_the_undisturbed_result_whatever_fails() {
    // In a mount namespace of its own it may have small file systems, and they go with it.
    if std::env::var_os(INSIDE).is_none() {
        let name = "a_job_ends_with_the_undisturbed_result_whatever_fails";
        let mut command = Command::new("unshare");
        command
            .args(["-rm"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1");
        let probe = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
        if probe.is_ok_and(|status| status.success()) {
            // Its results are not the harness's.
            command.stdout(Stdio::null());
            if std::env::var_os("FAULTS").is_some() {
                assert!(command.status().unwrap().success());
            } else {
                let output = command.output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            return;
        }
        eprintln!("no mount namespaces here: no disk runs full");
    }
    let faults = setting("FAULTS", 10) as usize;
    let mut random = Random(setting("FAULTS_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut cluster = Cluster::new();
    let heat = cluster.at("heat");
    build_heat(&heat);
    let (reference, output) = (cluster.at("reference"), cluster.at("output"));
    let steps = setting("FAULTS_STEPS", 200 + 120 * faults.min(FAULTS_OF_A_RUN) as u64) as u32;
    cluster.launch(&heat, steps, 0, &reference);
    let finished = wait_for("the undisturbed run", || cluster.job.as_mut().unwrap().try_wait().unwrap());
    assert!(finished.success(), "{}", cluster.log());
    let reference = fs::read(reference).unwrap();
    let (mut done, mut counts, mut started_over) = (0, BTreeMap::<Fault, u32>::new(), 0);
    while done < faults {
        fs::write(cluster.at("job.log"), "").unwrap();
        let _ = fs::remove_file(&output);
        let relaunch = |cluster: &mut Cluster| cluster.launch(&heat, steps, 10_000, &output);
        relaunch(&mut cluster);
        cluster.go_on(None, 3);
        let mut worst = Fault::Rank;
        for _ in 0..FAULTS_OF_A_RUN {
            if done >= faults || !cluster.is_running() {
                break;
            }
            // Each kind comes before any comes again.
            let fault = if done < ALL.len() { ALL[done] } else { ALL[random.below(ALL.len())] };
            let before = cluster.newest();
            cluster.inject(fault, &mut random, relaunch);
            cluster.go_on(before, 1 + random.below(6) as u32);
            done += 1;
            *counts.entry(fault).or_default() += 1;
            if !matches!(fault, Fault::Daemon | Fault::Head | Fault::Launcher | Fault::DiskFull) {
                worst = worst.max(fault);
            }
            eprintln!("{done}: {fault:?}, newest {:?}", cluster.newest());
        }
        let finished = wait_for("the job's end", || cluster.job.as_mut().unwrap().try_wait().unwrap());
        assert!(finished.success(), "{}", cluster.log());
        assert!(fs::read(&output).unwrap() == reference, "another result:\n{}", cluster.log());
        let over = cluster.log().matches("starts over").count();
        assert!(over == 0 || worst > Fault::Rank, "light faults lose nothing:\n{}", cluster.log());
        started_over += over;
        let told =
            |line: &&str| ["starts from", "starts over", "given up", "not used"].iter().any(|text| line.contains(text));
        cluster.log().lines().filter(told).for_each(|line| eprintln!("    {line}"));
    }
    eprintln!(
        "{done} faults {counts:?}: every result as undisturbed; the job said {started_over} times that it starts over"
    );
}

#[test]
fn a_node_that_fails_is_left_before_it_does() {
    let mut cluster = Cluster::new();
    let heat = cluster.at("heat");
    build_heat(&heat);
    let output = cluster.at("output");
    cluster.launch(&heat, 400, 10_000, &output);
    cluster.go_on(None, 3);
    let node = cluster.busy()[3];
    fs::write(cluster.at(&format!("failing{node}")), "").unwrap();
    wait_for("the job makes way", || cluster.log().contains("makes way for a node that fails").then_some(()));
    wait_for("it runs elsewhere", || (cluster.busy().len() == RANKS).then_some(()));
    assert!(!cluster.busy().contains(&node), "{}", cluster.log());
    wait_for("the second attempt writes", || cluster.newest().filter(|&(attempt, _)| attempt == 2));
    let shown =
        Command::new(BINARY).args(["jobs", "--config"]).arg(cluster.at(&format!("{HEAD}.toml"))).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("heat") && shown.contains("attempt 2") && shown.contains("local"), "{shown}");
    let finished = wait_for("the job's end", || cluster.job.as_mut().unwrap().try_wait().unwrap());
    assert!(finished.success() && cluster.log().contains("restarts at step"), "{}", cluster.log());
    assert!(!cluster.log().contains("starts over"), "{}", cluster.log());
}
