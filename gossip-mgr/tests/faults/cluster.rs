//! Eight ranks' nodes and spare ones, each a daemon with a store of its own on a small file system in memory.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{self, BINARY, PATIENCE, free_addrs, write_key};
use crate::nodes::{Nodes, is_inside};

pub const RANKS: usize = 8;
pub const NODES: usize = 10;
/// The node that starts the job.
pub const HEAD: usize = NODES;

/// On a machine that has much else to do a checkpoint of eight ranks may take two minutes; one that comes later hangs.
const STUCK: Duration = Duration::from_secs(900);

/// What is run.
pub struct Program {
    /// As processes are listed, and as its files begin.
    pub name: &'static str,
    pub path: PathBuf,
    /// All but the last, which is the file of its result.
    pub arguments: Vec<String>,
    /// Microseconds that it rests at each step while there are faults: the argument before the last.
    pub pause: u32,
}

pub struct Cluster {
    dir: tempfile::TempDir,
    nodes: Nodes,
    daemons: Vec<Option<Child>>,
    pub coordinator: Option<Child>,
    /// Whether the stores can run full.
    pub is_small: bool,
    pub program: Program,
    pub job: Option<Child>,
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
        (0..=HEAD).for_each(|node| end_all(&self.nodes.processes(node)));
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("all that was written is in {}", self.dir.path().display());
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
pub fn end_all(processes: &[Pid]) {
    for &process in processes {
        let _ = kill(process, Signal::SIGKILL);
    }
}

impl Cluster {
    /// With the program that `build` makes in a folder.
    pub fn new(build: impl FnOnce(&Path) -> Program) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_key(&at("key"), 9);
        fs::create_dir(at("shared")).unwrap();
        let nodes = Nodes::new(dir.path(), NODES + 1);
        let program = build(dir.path());
        let held: Vec<TcpListener> = (0..=NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let on = |node: usize, port: u16| SocketAddr::new(nodes.address(node), port);
        let gossip: Vec<SocketAddr> =
            free_addrs(NODES + 1).iter().enumerate().map(|(node, free)| on(node, free.port())).collect();
        let node = |node: usize| {
            // Neighbours share a power supply.
            let shares = if node == HEAD { String::new() } else { format!("'power{}'", node / 2) };
            let host = nodes.host(node).map_or(String::new(), |host| format!(", host = '{host}'"));
            format!(
                "{{ name = 'n{node}', address = '{}', gossip = '{}', socket = '{}', shares = [{shares}], slots = {}{host} }},\n",
                on(node, held[node].local_addr().unwrap().port()),
                gossip[node],
                at(&format!("agent{node}")).display(),
                usize::from(node != HEAD),
            )
        };
        let list: String = (0..=NODES).map(node).collect();
        for node in 0..=NODES {
            let path = |name: &str| at(&format!("{name}{node}")).display().to_string();
            let config = format!(
                "[node]\nlisten = '{}'\nseeds = ['{}', '{}']\nkey_file = '{}'\nstate_dir = '{}'\n\
                 [detection]\n{}\n[control]\nsocket = '{}'\n\
                 [checkpoint]\nnode = 'n{node}'\nstore = '{}'\nshared = '{}'\nsocket = '{}'\nfailing_file = '{}'\ncoordinator = '{}'\n\
                 nodes = [\n{list}]\nlevels = [\n\
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
        let daemons = (0..=NODES).map(|_| None).collect();
        let mut cluster = Self { dir, nodes, daemons, coordinator: None, is_small: true, program, job: None };
        cluster.start_coordinator();
        for node in 0..=NODES {
            cluster.is_small &= cluster.mount(node);
            cluster.start(node);
        }
        cluster
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self, node: usize) -> PathBuf {
        self.at(&format!("store{node}"))
    }

    /// A small file system in memory for a node's store, where that is allowed.
    fn mount(&self, node: usize) -> bool {
        if !is_inside() {
            return false;
        }
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(self.store(node)).status();
        mounted.is_ok_and(|status| status.success())
    }

    pub fn start(&mut self, node: usize) {
        let log = fs::File::options().create(true).append(true).open(self.at(&format!("log{node}"))).unwrap();
        let mut command = self.nodes.command(node, BINARY);
        command.args(["run", "--config"]).arg(self.at(&format!("{node}.toml"))).stdin(Stdio::null()).stderr(log);
        self.daemons[node] = Some(command.spawn().unwrap());
    }

    pub fn start_coordinator(&mut self) {
        let mut command = Command::new(BINARY);
        command.args(["coordinate", "--listen"]).arg(self.at("coordinator")).stdin(Stdio::null()).stderr(Stdio::null());
        self.coordinator = Some(command.spawn().unwrap());
    }

    pub fn kill_daemon(&mut self, node: usize) {
        if let Some(mut daemon) = self.daemons[node].take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    pub fn ranks_on(&self, node: usize) -> Vec<Pid> {
        processes(
            self.program.name,
            &format!("GOSSIP_CHECKPOINT_SOCKET={}", self.at(&format!("agent{node}")).display()),
        )
    }

    /// Nodes with ranks.
    pub fn busy(&self) -> Vec<usize> {
        (0..NODES).filter(|&node| !self.ranks_on(node).is_empty()).collect()
    }

    /// All its processes are killed, and what it stored is lost; later it comes back, empty.
    pub fn lose(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.kill_daemon(node);
            end_all(&self.ranks_on(node));
            end_all(&self.nodes.processes(node));
            for entry in fs::read_dir(self.store(node)).unwrap().flatten() {
                if entry.path().is_dir() {
                    fs::remove_dir_all(entry.path()).unwrap();
                }
            }
        }
    }

    /// Starts the job; an undisturbed one takes no rest.
    pub fn launch(&mut self, is_disturbed: bool, output: &Path) {
        let log = fs::File::options().create(true).append(true).open(self.at("job.log")).unwrap();
        let pause = if is_disturbed { self.program.pause } else { 0 };
        let mut command = self.nodes.command(HEAD, BINARY);
        command
            .args(["job", "run", "--name", self.program.name, "--ranks", &RANKS.to_string()])
            .args(["--futile", "30", "--config"])
            .arg(self.at(&format!("{HEAD}.toml")))
            .arg("--")
            .arg(&self.program.path)
            .args(&self.program.arguments)
            .arg(pause.to_string())
            .arg(output)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .env("LD_LIBRARY_PATH", libraries())
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .envs(self.nodes.settings());
        self.job = Some(command.spawn().unwrap());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.at("job.log")).unwrap_or_default()
    }

    /// The newest piece of any store: attempt and number.
    pub fn newest(&self) -> Option<(u32, u32)> {
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
    pub fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> = (0..NODES).map(|node| self.store(node)).collect();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_whole = ["piece", "copy", "parity", self.program.name]
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

    pub fn is_running(&mut self) -> bool {
        matches!(self.job.as_mut().unwrap().try_wait(), Ok(None))
    }

    /// Waits for checkpoints that are newer than `old`, or the job's end.
    pub fn go_on(&mut self, old: Option<(u32, u32)>, count: u32) {
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
            assert!(begin.elapsed() < STUCK, "no new checkpoint:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until one of `texts` is said once more, or the job's end.
    pub fn wait_for_log(&mut self, texts: &[&str]) {
        let said = |cluster: &Self| texts.iter().map(|text| cluster.log().matches(text).count()).sum::<usize>();
        let (before, begin) = (said(self), Instant::now());
        while self.is_running() && said(self) == before {
            assert!(begin.elapsed() < PATIENCE, "nobody says any of {texts:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the job's end, as long as it goes on.
    pub fn finished(&mut self) -> ExitStatus {
        let (mut newest, mut since) = (self.newest(), Instant::now());
        while self.is_running() {
            let now = self.newest();
            if now != newest {
                (newest, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < STUCK, "nothing goes on and it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.job.as_mut().unwrap().wait().unwrap()
    }
}

/// Where libscr.so is: beside the tests.
pub fn libraries() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    assert!(folder.join("libscr.so").exists(), "cargo builds libscr.so beside the tests");
    folder
}
