//! Daemons as processes of their own. Every wait is for a condition, with a bound that only a failure
//! reaches.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod proxy;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use gossip_mgr::view::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const BINARY: &str = env!("CARGO_BIN_EXE_gossip-mgr");
/// Failure detection that is fast, but not too fast for a loaded machine.
pub const PERIOD: &str = "period_ms = 400";
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where a node listens, and where the others send to.
#[derive(Clone, Copy)]
pub struct Place {
    pub listen: SocketAddr,
    pub advertise: SocketAddr,
}

pub struct Cluster {
    dir: tempfile::TempDir,
    pub addrs: Vec<SocketAddr>,
    places: Vec<Place>,
    /// The section of failure detection in their configuration.
    detection: String,
    pub daemons: Vec<Option<Child>>,
    /// What stands before `gossip-mgr run`, for each node.
    pub wrapper: Box<dyn Fn(usize) -> Command>,
}

/// Free ports in increasing order, all held until all are known.
pub fn free_addrs(count: usize) -> Vec<SocketAddr> {
    let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut addrs: Vec<SocketAddr> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
    addrs.sort_unstable();
    addrs
}

pub fn write_key(path: &Path, byte: u8) {
    std::fs::write(path, [byte; 32]).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits until `done` gives something.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(result) = done() {
            return result;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not happen within {} s", PATIENCE.as_secs());
}

impl Cluster {
    /// Daemons on loopback, all with `more` in their configuration.
    pub fn new(count: usize, more: &str) -> Self {
        let place = |addr| Place { listen: addr, advertise: addr };
        let mut cluster = Self::at(free_addrs(count).into_iter().map(place).collect(), PERIOD, more);
        (0..count).for_each(|i| cluster.start(i));
        cluster
    }

    /// Daemons that are configured but not started.
    pub fn at(places: Vec<Place>, detection: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_key(&dir.path().join("key"), 7);
        let cluster = Self {
            dir,
            addrs: places.iter().map(|place| place.advertise).collect(),
            daemons: places.iter().map(|_| None).collect(),
            places,
            detection: detection.into(),
            wrapper: Box::new(|_| Command::new(BINARY)),
        };
        for i in 0..cluster.addrs.len() {
            cluster.configure(i, "key", more);
        }
        cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, i: usize) -> PathBuf {
        self.path(&format!("{i}.toml"))
    }

    /// Writes the configuration of a node; `more` goes to the end, in `[gossip]` until it opens
    /// another section.
    pub fn configure(&self, i: usize, key: &str, more: &str) {
        let dir = self.dir.path().display();
        let seed = self.addrs[usize::from(i == 0)];
        let Place { listen, advertise } = self.places[i];
        let detection = &self.detection;
        let text = format!(
            "[node]\nlisten = '{listen}'\nadvertise = '{advertise}'\nseeds = ['{seed}']\n\
             key_file = '{dir}/{key}'\nstate_dir = '{dir}'\n[detection]\n{detection}\n\
             [control]\nsocket = '{dir}/{i}.sock'\n[gossip]\ninterval_ms = 100\n{more}"
        );
        std::fs::write(self.config(i), text).unwrap();
    }

    /// Builds a library of tests/ for LD_PRELOAD.
    pub fn library(&self, source: &str) -> PathBuf {
        let library = self.path(source).with_extension("so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
        let built = Command::new("gcc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
        assert!(built.unwrap().success(), "gcc is needed to build {}", source.display());
        library
    }

    pub fn start(&mut self, i: usize) {
        let log = std::fs::File::create(self.log(i)).unwrap();
        let child =
            (self.wrapper)(i).args(["run", "--config"]).arg(self.config(i)).stderr(Stdio::from(log)).spawn().unwrap();
        self.daemons[i] = Some(child);
    }

    /// The log of the newest life of a node.
    pub fn log(&self, i: usize) -> PathBuf {
        self.path(&format!("{i}.log"))
    }

    pub fn signal(&self, i: usize, signal: Signal) {
        let pid = self.daemons[i].as_ref().unwrap().id();
        kill(Pid::from_raw(pid as i32), signal).unwrap();
    }

    pub fn kill(&mut self, i: usize) {
        let mut child = self.daemons[i].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn ask(&self, i: usize, command: &[&str]) -> Output {
        Command::new(BINARY).args(command).arg("--socket").arg(self.path(&format!("{i}.sock"))).output().unwrap()
    }

    pub fn status(&self, i: usize) -> Option<Status> {
        serde_json::from_slice(&self.ask(i, &["status", "--json"]).stdout).ok()
    }

    pub fn wait(&self, i: usize, what: &str, done: impl Fn(&Status) -> bool) -> Status {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < PATIENCE {
            last = self.status(i);
            if let Some(status) = last.take_if(|status| done(status)) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(self.log(i)).unwrap_or_default();
        panic!("node {i}: {what} did not happen: {last:#?}\nits log:\n{log}");
    }

    pub fn wait_alive(&self, asked: usize, count: usize) -> Status {
        self.wait(asked, &format!("{count} alive"), |s| alive(s) == count)
    }
}

pub fn state_of(status: &Status, addr: SocketAddr) -> Option<&str> {
    let node = status.nodes.iter().find(|n| n.node == addr)?;
    Some(node.state.as_str())
}

pub fn alive(status: &Status) -> usize {
    status.nodes.iter().filter(|n| n.state == "alive").count()
}

pub fn incarnation_of(status: &Status, addr: SocketAddr) -> Option<u64> {
    let node = status.nodes.iter().find(|n| n.node == addr)?;
    Some(node.incarnation)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut child in self.daemons.iter_mut().filter_map(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
