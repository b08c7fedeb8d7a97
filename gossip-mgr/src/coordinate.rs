//! `gossip-mgr coordinate`: jobs that share storage write to it one after the other; and how the others ask it.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::{Table, presets::NOTHING};
use gossip_checkpoint::agent::wire::{Connection, Side};
use gossip_checkpoint_model::coordinator::{Coordinator, Hello, Permit, Standing};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::config::{Config, ConfigError};
use crate::key::{self, KeyError};
use crate::output::OutputError;

/// Who does not answer within this time is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Who did not answer is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A connection on which nothing is said for so long, and for several intervals of its job, is closed.
const IDLE: Duration = Duration::from_secs(3_600);
const INTERVALS: f64 = 4.0;
/// A changed interval or size is told if it changed by this share.
const CHANGED: f64 = 0.05;
/// One that is stopped must not keep others' connections for ever; each is a thread.
const MOST: usize = 4_096;

/// Arguments of `coordinate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gossip-mgr coordinate --config node.toml --bandwidth 20   at checkpoint.coordinator, with the key in node.key_file
  gossip-mgr coordinate --config node.toml --show           who writes and who waits
  gossip-mgr coordinate --listen /run/coordinator.sock      for the jobs of one user on one machine")]
pub struct Args {
    /// Configuration file of a node, for checkpoint.coordinator and node.key_file.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Address and port, or path of a Unix socket, instead of checkpoint.coordinator.
    #[arg(short, long)]
    listen: Option<Address>,
    /// Gigabytes a second that the shared storage takes, until it is measured.
    #[arg(long, default_value_t = 1.0, value_name = "GB/S", value_parser = bandwidth)]
    bandwidth: f64,
    /// Print who writes and who waits at a coordinator that runs.
    #[arg(long)]
    pub show: bool,
    /// With --show: print JSON.
    #[arg(long, requires = "show")]
    json: bool,
}

fn bandwidth(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|&number: &f64| number > 0.0 && number.is_finite());
    parsed.ok_or_else(|| "gigabytes a second, above 0".into())
}

/// Where a coordinator is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// On any node; both sides must have the cluster's key.
    Tcp(SocketAddr),
    /// On this node; the socket's rights guard it.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) if text.starts_with('/') => Ok(Self::Unix(text.into())),
            Err(_) => Err(format!(
                "`{text}` is no coordinator's address: an IP address and a port, as 10.0.0.1:7800, or the path of a Unix \
                 socket from / on are allowed"
            )),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What a job's node says.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Word {
    Hello(Hello),
    Ask { work_since_s: f64 },
    Done { seconds: Option<f64> },
    Show,
}

/// What it is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Reply {
    Noted,
    Permit(Permit),
    Standings(Vec<Standing>),
}

/// Why there is no coordinator.
#[derive(Debug, thiserror::Error)]
pub enum CoordinateError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No address.
    #[error("where is the coordinator? Give --listen, or --config with checkpoint.coordinator")]
    NoAddress,
    /// No key.
    #[error("a coordinator at an IP address needs the cluster's key: give --config with node.key_file")]
    NoKey,
    /// Nobody answers.
    #[error(
        "no coordinator answers at {address}: {error}. Is `gossip-mgr coordinate` running there, with the same key?"
    )]
    Silent {
        /// Where.
        address: Address,
        /// What the system says.
        error: io::Error,
    },
    /// Something else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

trait Stream: Read + Write + Send {
    fn patience(&self, time: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Stream for UnixStream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

type Wire = Connection<Box<dyn Stream>>;

/// How a node's daemon asks the coordinator for its jobs, each over a connection of its own: if the daemon dies, so do their
/// places.
pub struct Link {
    address: Address,
    key: [u8; 32],
    jobs: HashMap<String, (Wire, Hello)>,
    silent_since: Option<Instant>,
}

impl Link {
    /// To the coordinator at `address`.
    pub fn new(address: Address, key: [u8; 32]) -> Self {
        Self { address, key, jobs: HashMap::new(), silent_since: None }
    }

    /// Whether the job, which has worked for so long since it last wrote, may write now. None if nobody answers.
    pub fn ask(&mut self, job: &str, hello: Hello, work_since_s: f64) -> Option<Permit> {
        if self.silent_since.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return None;
        }
        let had_one = self.jobs.contains_key(job);
        let answer = match self.once(job, &hello, work_since_s) {
            // It was started anew, or had closed a connection on which nothing was said for long.
            Err(_) if had_one => self.once(job, &hello, work_since_s),
            answer => answer,
        };
        match answer {
            Ok(permit) => {
                if self.silent_since.take().is_some() {
                    info!(coordinator = %self.address, "the coordinator answers again");
                }
                Some(permit)
            }
            Err(error) => {
                if self.silent_since.is_none() {
                    warn!(coordinator = %self.address, %error, "no coordinator: checkpoints are written without one");
                }
                self.silent_since = Some(Instant::now());
                None
            }
        }
    }

    fn once(&mut self, job: &str, hello: &Hello, work_since_s: f64) -> io::Result<Permit> {
        // After an error the connection's state is unknown, so it is put back only if all went well.
        let (mut wire, told) = match self.jobs.remove(job) {
            Some(known) => known,
            None => {
                let mut wire = connect(&self.address, &self.key)?;
                exchange(&mut wire, &Word::Hello(hello.clone()))?;
                (wire, hello.clone())
            }
        };
        let told = if differs(&told, hello) {
            exchange(&mut wire, &Word::Hello(hello.clone()))?;
            hello.clone()
        } else {
            told
        };
        let Reply::Permit(permit) = exchange(&mut wire, &Word::Ask { work_since_s })? else {
            return Err(io::Error::other("it answers something else"));
        };
        self.jobs.insert(job.to_owned(), (wire, told));
        Ok(permit)
    }

    /// The job has written for so long, or gave up.
    pub fn done(&mut self, job: &str, seconds: Option<f64>) {
        let Some((wire, _)) = self.jobs.get_mut(job) else { return };
        if exchange(wire, &Word::Done { seconds }).is_err() {
            self.jobs.remove(job);
        }
    }

    /// The job has ended.
    pub fn forget(&mut self, job: &str) {
        self.jobs.remove(job);
    }
}

fn differs(a: &Hello, b: &Hello) -> bool {
    let far = |a: f64, b: f64| (a - b).abs() > CHANGED * a.max(b);
    a.nodes != b.nodes
        || far(a.bytes as f64, b.bytes as f64)
        || far(a.interval_s, b.interval_s)
        || far(a.mtbf_s, b.mtbf_s)
}

fn exchange(wire: &mut Wire, word: &Word) -> io::Result<Reply> {
    wire.send(word, &[])?;
    Ok(wire.receive()?.0)
}

fn connect(address: &Address, key: &[u8; 32]) -> io::Result<Wire> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.patience(PATIENCE)?;
            stream.set_nodelay(true)?;
            Connection::keyed(Box::new(stream), key, Side::Client)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.patience(PATIENCE)?;
            Ok(Connection::plain(Box::new(stream)))
        }
    }
}

/// Runs a coordinator until the process ends, or shows one.
///
/// # Errors
/// [`CoordinateError`].
pub fn run(args: &Args) -> Result<(), CoordinateError> {
    let config = args.config.as_deref().map(Config::load).transpose()?;
    let section = config.as_ref().and_then(|config| config.checkpoint.as_ref());
    let configured = section.and_then(|section| section.coordinator.clone());
    let address = args.listen.clone().or(configured).ok_or(CoordinateError::NoAddress)?;
    let key_file = config.as_ref().and_then(|config| config.node.key_file.as_ref());
    let key = match (&address, key_file) {
        (_, Some(path)) => key::load(path)?.of_coordinators(),
        (Address::Tcp(_), None) => return Err(CoordinateError::NoKey),
        // Not used: the socket's rights guard it.
        (Address::Unix(_), None) => [0; 32],
    };
    if args.show {
        return show(&address, &key, args.json);
    }
    let server = Arc::new(Server {
        coordinator: Mutex::new(Coordinator::new(args.bandwidth * 1e9)),
        begin: Instant::now(),
        key,
    });
    server.serve(&address).with_context(|| format!("cannot listen at {address}"))?;
    Ok(())
}

fn show(address: &Address, key: &[u8; 32], json: bool) -> Result<(), CoordinateError> {
    let asked = connect(address, key).and_then(|mut wire| exchange(&mut wire, &Word::Show));
    let silent = |error| CoordinateError::Silent { address: address.clone(), error };
    let Reply::Standings(jobs) = asked.map_err(silent)? else {
        return Err(silent(io::Error::other("it answers something else")));
    };
    let text = if json { serde_json::to_string(&jobs).context("JSON")? + "\n" } else { table(&jobs) };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| anyhow::Error::from(OutputError::from(error)).into())
}

fn table(jobs: &[Standing]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".into();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["JOB", "NODES", "STATE", "INTERVAL", "WRITES FOR", "DUE"]);
    for job in jobs {
        let state = if job.writes {
            "writes"
        } else if job.waits {
            "waits"
        } else {
            "computes"
        };
        let due = job.due_in_s.map_or_else(|| "-".into(), |seconds| format!("{seconds:.0} s"));
        table.add_row([
            job.hello.job.clone(),
            job.hello.nodes.to_string(),
            state.into(),
            format!("{:.0} s", job.hello.interval_s),
            format!("{:.1} s", job.takes_s),
            due,
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

struct Server {
    coordinator: Mutex<Coordinator<u64>>,
    begin: Instant,
    key: [u8; 32],
}

impl Server {
    fn serve(self: Arc<Self>, address: &Address) -> io::Result<()> {
        let mut next = 0;
        match address {
            Address::Tcp(at) => {
                let listener = TcpListener::bind(at)?;
                info!(%address, "coordinating");
                for stream in listener.incoming().flatten() {
                    let _ = stream.set_nodelay(true);
                    self.take(&mut next, Box::new(stream), true);
                }
            }
            Address::Unix(path) => {
                if UnixStream::connect(path).is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another one answers there"));
                }
                // Left by one that was killed; anything else there is kept, and listening fails.
                if std::fs::symlink_metadata(path)
                    .is_ok_and(|file| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type()))
                {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                info!(%address, "coordinating");
                for stream in listener.incoming().flatten() {
                    self.take(&mut next, Box::new(stream), false);
                }
            }
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, next: &mut u64, stream: Box<dyn Stream>, keyed: bool) {
        // The listener has one, this function one, and each connection one.
        if Arc::strong_count(self) > MOST {
            warn!("too many connections: one more is refused");
            return;
        }
        *next += 1;
        let (server, who) = (Arc::clone(self), *next);
        std::thread::spawn(move || {
            let error = server.talk(who, stream, keyed).err();
            server.locked().gone(&who);
            debug!(who, ?error, "a connection ended");
        });
    }

    fn talk(&self, who: u64, stream: Box<dyn Stream>, keyed: bool) -> io::Result<()> {
        stream.patience(PATIENCE)?;
        let mut wire: Wire =
            if keyed { Connection::keyed(stream, &self.key, Side::Server)? } else { Connection::plain(stream) };
        loop {
            let (word, _) = wire.receive()?;
            let reply = match word {
                Word::Hello(hello) => {
                    let intervals = Duration::try_from_secs_f64(INTERVALS * hello.interval_s).unwrap_or(IDLE);
                    wire.stream().patience(intervals.max(IDLE))?;
                    info!(who, job = hello.job, nodes = hello.nodes, interval_s = hello.interval_s, "a job");
                    self.locked().hello(who, hello);
                    Reply::Noted
                }
                Word::Ask { work_since_s } => {
                    let permit = self.locked().ask(&who, self.now(), work_since_s);
                    debug!(who, ?permit, "asked");
                    Reply::Permit(permit)
                }
                Word::Done { seconds } => {
                    self.locked().done(&who, seconds);
                    Reply::Noted
                }
                Word::Show => Reply::Standings(self.locked().standings(self.now())),
            };
            wire.send(&reply, &[])?;
        }
    }

    fn now(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    fn locked(&self) -> MutexGuard<'_, Coordinator<u64>> {
        // A plan that a panicking thread left half made is made anew with the next question.
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
