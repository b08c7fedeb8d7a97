//! The agent of a node: keeps its store, pulls copies and parity for it in the background, and restores from them.
//!
//! It knows nothing that is not in the store, so it may be killed and started again at any time.

pub mod client;
pub mod peers;
pub mod wire;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::files::Disk;
use crate::id::{CheckpointId, Job, Level, Name};
use crate::policy::Policy;
use crate::recovery::{Held, Keeper, Place, Source};
use crate::store::Store;
use crate::topology::Host;
use crate::transfer::{self, Fetch};
use peers::Peers;
use wire::{
    AllHeldAnswer, Answer, Ask, Connection, Ended, HeldAnswer, LevelSettings, Progress, Side, Task, Welcome, clock,
};

/// How long a peer that opened a connection may say nothing.
const IDLE: Duration = Duration::from_secs(600);
/// In the store's folder: whose it is.
const OWNER_FILE: &str = "node";
/// Bytes that are read for a peer at once, at most.
const LARGEST_READ: u64 = 8 << 20;

/// Where an agent's socket is if nothing else is said.
pub fn default_socket() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::geteuid().is_root());
    own.map_or_else(|| "/run".into(), PathBuf::from).join("gossip-mgr-checkpoint.sock")
}

/// Another node.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it is called and what it shares.
    pub host: Host,
    /// Where its agent is.
    pub address: SocketAddr,
}

/// Why this node should be left, if it should.
pub type Health = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// How an agent is set up.
pub struct Settings {
    /// This node; one of `nodes`.
    pub node: Name,
    /// Folder of its store, which no other node may use.
    pub store: PathBuf,
    /// Folder that all nodes share.
    pub shared: Option<PathBuf>,
    /// Socket for programs on this node.
    pub socket: PathBuf,
    /// All nodes.
    pub nodes: Vec<Peer>,
    /// Levels in use, from cheap to safe.
    pub levels: Vec<LevelSettings>,
    /// The cluster's key.
    pub key: [u8; 32],
    /// Looks after this node.
    pub health: Health,
    /// Decides what is due.
    pub policy: Box<dyn Policy>,
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder is another node's.
    #[error(
        "checkpoint.store: {} is the store of node {owner}, and this is {node}: each node needs a folder of its own, on its \
         own disk or memory. Choose another, or remove {} if {owner} is gone for good",
        store.display(), store.join(OWNER_FILE).display()
    )]
    OthersStore {
        /// The folder.
        store: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who wants it.
        node: Name,
    },
    /// Another agent runs for it.
    #[error(
        "checkpoint.store: another gossip-mgr uses {} now: each needs a folder of its own. Choose another, or end that one",
        .0.display()
    )]
    InUse(PathBuf),
    /// The node is not on the list.
    #[error("checkpoint.node: {0} is none of checkpoint.nodes: add it there, with the address of its agent")]
    Unknown(Name),
    /// The system says no.
    #[error("{what}: {error}")]
    Io {
        /// What was to be done.
        what: String,
        /// What it says.
        error: io::Error,
    },
}

#[derive(Default)]
struct JobState {
    work: HashMap<CheckpointId, (Level, Progress)>,
    ended: Option<(u32, Ended)>,
}

struct Shared {
    own: Own,
    store: Store<Disk>,
    shared: Option<Store<Disk>>,
    peers: Peers,
    jobs: Mutex<HashMap<Job, JobState>>,
    policy: Mutex<Box<dyn Policy>>,
}

/// What of the settings is used later.
struct Own {
    node: Name,
    hosts: Vec<Host>,
    levels: Vec<LevelSettings>,
    key: [u8; 32],
    health: Health,
}

/// An agent that runs until the process ends.
pub struct Agent {
    _owner: Flock<std::fs::File>,
    socket: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is only what is under way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the store this node's, or finds that it is another's.
fn own(store: &Path, node: &Name) -> Result<Flock<std::fs::File>, StartError> {
    let io = |error| StartError::Io { what: format!("checkpoint.store: cannot use {}", store.display()), error };
    std::fs::create_dir_all(store).map_err(io)?;
    std::fs::set_permissions(store, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    let path = store.join(OWNER_FILE);
    let file =
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StartError::InUse(store.into()))?;
    let owner = std::fs::read_to_string(&path).map_err(io)?;
    match owner.trim() {
        "" => std::fs::write(&path, format!("{node}\n")).map_err(io)?,
        owner if owner == node.as_str() => {}
        owner => return Err(StartError::OthersStore { store: store.into(), owner: owner.into(), node: node.clone() }),
    }
    Ok(file)
}

impl Agent {
    /// Starts an agent; it works in threads of its own.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { node, store, shared, socket, nodes, levels, key, health, policy } = settings;
        let address = nodes.iter().find(|peer| peer.host.name == node).map(|peer| peer.address);
        let address = address.ok_or_else(|| StartError::Unknown(node.clone()))?;
        let owner = own(&store, &node)?;
        let listener = TcpListener::bind(address).map_err(|error| StartError::Io {
            what: format!("checkpoint.nodes: cannot listen at {address}, the address of {node}"),
            error,
        })?;
        let at_socket =
            |error| StartError::Io { what: format!("checkpoint.socket: cannot listen at {}", socket.display()), error };
        // The store's lock is held, so a socket that is there was left by an agent that was killed.
        if std::fs::symlink_metadata(&socket)
            .is_ok_and(|file| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type()))
        {
            std::fs::remove_file(&socket).map_err(at_socket)?;
        }
        let local = UnixListener::bind(&socket).map_err(at_socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).map_err(at_socket)?;
        let shared = Arc::new(Shared {
            store: Store::new(Disk, store),
            shared: shared.map(|folder| Store::new(Disk, folder)),
            peers: Peers::new(node.clone(), nodes.iter().map(|p| (p.host.name.clone(), p.address)).collect(), key),
            jobs: Mutex::default(),
            policy: Mutex::new(policy),
            own: Own { node, hosts: nodes.into_iter().map(|peer| peer.host).collect(), levels, key, health },
        });
        let by_socket = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in local.incoming().flatten() {
                let shared = Arc::clone(&by_socket);
                thread::spawn(move || shared.serve_local(stream));
            }
        });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve_peer(stream));
            }
        });
        Ok(Self { _owner: owner, socket })
    }
}

impl Fetch for Shared {
    fn fetch(&self, job: &Job, id: CheckpointId, place: &Place, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let read = |store: &Store<Disk>| store.read(job, id, place.object, offset, length).map_err(io::Error::other);
        match &place.keeper {
            Keeper::Shared => read(self.shared.as_ref().ok_or_else(no_shared)?),
            Keeper::Node(name) if *name == self.own.node => read(&self.store),
            Keeper::Node(name) => {
                let ask = Ask::Read { job: job.clone(), id, object: place.object, offset, length };
                self.peers.ask(name, &ask).map(|(_, bytes)| bytes)
            }
        }
    }

    fn verify(&self, job: &Job, id: CheckpointId, place: &Place) -> io::Result<()> {
        let verify = |store: &Store<Disk>| store.verify(job, id, place.object).map(drop).map_err(io::Error::other);
        match &place.keeper {
            Keeper::Shared => verify(self.shared.as_ref().ok_or_else(no_shared)?),
            Keeper::Node(name) if *name == self.own.node => verify(&self.store),
            Keeper::Node(name) => {
                self.peers.ask(name, &Ask::Verify { job: job.clone(), id, object: place.object }).map(drop)
            }
        }
    }
}

fn no_shared() -> io::Error {
    io::Error::other("this node has no checkpoint.shared")
}

impl Shared {
    fn serve_peer(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection::keyed(stream, &self.own.key, Side::Server)?;
        loop {
            let (ask, _) = connection.receive::<Ask>()?;
            let (answer, bytes) = self.answer_peer(ask);
            connection.send(&answer, &bytes)?;
        }
    }

    fn serve_local(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let user = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)?.uid();
        let own = nix::unistd::geteuid().as_raw();
        let mut connection = Connection::plain(stream);
        loop {
            let (ask, _) = connection.receive::<Ask>()?;
            // What an agent reads and writes for a program, the program could read and write itself.
            let (answer, bytes) = match user == own {
                true => self.answer(ask, own),
                false => (Answer::Failed(format!("it runs for user {own}, and you are {user}")), Vec::new()),
            };
            connection.send(&answer, &bytes)?;
        }
    }

    /// What other nodes may ask.
    fn answer_peer(&self, ask: Ask) -> (Answer, Vec<u8>) {
        let done = |result: io::Result<()>| match result {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(error.to_string()),
        };
        let answer = match ask {
            Ask::Held { job, verify } => Answer::Held(self.held(&job, verify)),
            Ask::Read { job, id, object, offset, length } => {
                return match self.store.read(&job, id, object, offset, length.min(LARGEST_READ)) {
                    Ok(bytes) => (Answer::Bytes, bytes),
                    Err(error) => (Answer::Failed(error.to_string()), Vec::new()),
                };
            }
            Ask::Verify { job, id, object } => {
                done(self.store.verify(&job, id, object).map(drop).map_err(io::Error::other))
            }
            Ask::Prune { job, keep, newest } => done(prune(&self.store, &job, &keep, newest)),
            Ask::Forget { job } => done(self.store.forget(&job)),
            Ask::Jobs => match self.store.jobs() {
                Ok(jobs) => Answer::Jobs(jobs),
                Err(error) => Answer::Failed(error.to_string()),
            },
            _ => Answer::Failed("that is not answered to other nodes".into()),
        };
        (answer, Vec::new())
    }

    fn answer(self: &Arc<Self>, ask: Ask, owner: u32) -> (Answer, Vec<u8>) {
        let done = |result: io::Result<()>| match result {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(error.to_string()),
        };
        let answer = match ask {
            Ask::Hello => self.welcome(owner),
            Ask::AllHeld { job, verify } => Answer::AllHeld(self.all_held(&job, verify)),
            Ask::PruneAll { job, keep, newest } => {
                // The job goes on meanwhile: a node that does not answer would hold it up.
                let shared = Arc::clone(self);
                thread::spawn(move || {
                    if let Some(store) = &shared.shared {
                        let _ = prune(store, &job, &keep, newest);
                    }
                    shared.everywhere(&Ask::Prune { job, keep, newest });
                });
                Answer::Done
            }
            Ask::PruneShared { job, keep, newest } => {
                done(self.shared.as_ref().map_or(Ok(()), |store| prune(store, &job, &keep, newest)))
            }
            Ask::ForgetAll { job } => {
                let shared = self.shared.as_ref().map_or(Ok(()), |store| store.forget(&job));
                locked(&self.jobs).remove(&job);
                self.everywhere(&Ask::Forget { job });
                done(shared)
            }
            Ask::AllJobs => Answer::Jobs(self.all_jobs()),
            Ask::Decide { job, facts } => Answer::Decided(locked(&self.policy).decide(job.name.as_str(), &facts)),
            Ask::Finished { job, level, took_s } => {
                let mut policy = locked(&self.policy);
                match took_s {
                    Some((blocking, background)) => policy.measured(job.name.as_str(), level, blocking, background),
                    None => policy.gave_up(job.name.as_str(), level),
                }
                Answer::Done
            }
            Ask::Health => Answer::Health((self.own.health)()),
            Ask::Begin { job, id, level, tasks } => self.begin(job, id, level, tasks),
            Ask::Progress { job } => {
                let jobs = locked(&self.jobs);
                let work = jobs.get(&job).into_iter().flat_map(|state| &state.work);
                Answer::Progress(work.map(|(&id, (level, progress))| (id, *level, progress.clone())).collect())
            }
            Ask::Restore { job, manifest, source } => done(self.restore(&job, &manifest, source)),
            Ask::Ending { job, attempt, ended } => {
                locked(&self.policy).ended(job.name.as_str());
                locked(&self.jobs).entry(job).or_default().ended = Some((attempt, ended));
                Answer::Done
            }
            ask => return self.answer_peer(ask),
        };
        (answer, Vec::new())
    }

    fn welcome(&self, owner: u32) -> Answer {
        let Own { node, hosts, levels, .. } = &self.own;
        Answer::Welcome(Welcome {
            node: node.clone(),
            owner,
            store: self.store.root().into(),
            levels: levels.clone(),
            hosts: hosts.clone(),
        })
    }

    fn held(&self, job: &Job, verify: Option<CheckpointId>) -> HeldAnswer {
        let keeper = Keeper::Node(self.own.node.clone());
        let (held, damaged) = held(&self.store, &keeper, job, verify);
        let ended = locked(&self.jobs).get(job).and_then(|state| state.ended);
        let expected_loss_s = locked(&self.policy).expected_loss_s(job.name.as_str());
        HeldAnswer { held, damaged, clock: clock(), failing: (self.own.health)(), ended, expected_loss_s }
    }

    fn all_held(&self, job: &Job, verify: Option<CheckpointId>) -> AllHeldAnswer {
        let mut all = AllHeldAnswer::default();
        if let Some(store) = &self.shared {
            let (held, damaged) = held(store, &Keeper::Shared, job, verify);
            all.held.extend(held);
            all.damaged.extend(damaged);
        }
        let begin = clock();
        for (node, answer) in self.everywhere(&Ask::Held { job: job.clone(), verify }) {
            match answer {
                Ok(Answer::Held(answer)) => {
                    // It read its clock between the question and the answer.
                    let now = clock();
                    let ahead = if answer.clock > now { answer.clock - now } else { (answer.clock - begin).min(0.0) };
                    all.failing.extend(answer.failing.map(|why| (node.clone(), why)));
                    all.clocks.push((node, ahead));
                    all.held.extend(answer.held);
                    all.damaged.extend(answer.damaged);
                    all.ended = all.ended.max(answer.ended);
                    let known = [all.expected_loss_s, answer.expected_loss_s].into_iter().flatten();
                    all.expected_loss_s = known.max_by_key(|(attempt, _)| *attempt);
                }
                Ok(Answer::Failed(why)) => all.silent.push((node, why)),
                Ok(_) => all.silent.push((node, "it answers something else".into())),
                Err(error) => all.silent.push((node, error.to_string())),
            }
        }
        all
    }

    /// Asks all nodes at once, this one included.
    fn everywhere(&self, ask: &Ask) -> Vec<(Name, io::Result<Answer>)> {
        thread::scope(|scope| {
            let asked: Vec<_> = self
                .own
                .hosts
                .iter()
                .map(|host| {
                    let node = &host.name;
                    let is_own = *node == self.own.node;
                    let one = move || match is_own {
                        true => Ok(self.answer_peer(ask.clone()).0),
                        false => self.peers.ask(node, ask).map(|(answer, _)| answer),
                    };
                    (node.clone(), scope.spawn(one))
                })
                .collect();
            let gone = |_| Err(io::Error::other("it could not be asked"));
            asked.into_iter().map(|(node, answer)| (node, answer.join().unwrap_or_else(gone))).collect()
        })
    }

    fn all_jobs(&self) -> Vec<Job> {
        let mut jobs = BTreeSet::new();
        for (_, answer) in self.everywhere(&Ask::Jobs) {
            if let Ok(Answer::Jobs(some)) = answer {
                jobs.extend(some);
            }
        }
        jobs.extend(self.shared.iter().flat_map(|store| store.jobs().unwrap_or_default()));
        jobs.into_iter().collect()
    }

    fn begin(self: &Arc<Self>, job: Job, id: CheckpointId, level: Level, tasks: Vec<Task>) -> Answer {
        {
            let mut jobs = locked(&self.jobs);
            let state = jobs.entry(job.clone()).or_default();
            if state.work.values().any(|work| *work == (level, Progress::Running)) {
                return Answer::Busy;
            }
            // What is asked about is the last few.
            state.work.retain(|known, _| known.attempt == id.attempt && known.number + 64 > id.number);
            state.work.insert(id, (level, Progress::Running));
        }
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let begin = Instant::now();
            let done = tasks.iter().try_for_each(|task| shared.carry_out(&job, task));
            let progress = match done {
                Ok(()) => Progress::Done { seconds: begin.elapsed().as_secs_f64() },
                Err(error) => Progress::Failed(error.to_string()),
            };
            locked(&shared.jobs).entry(job).or_default().work.insert(id, (level, progress));
        });
        Answer::Done
    }

    fn carry_out(&self, job: &Job, task: &Task) -> io::Result<()> {
        match task {
            Task::Copy { manifest, from } => transfer::copy(&self.store, self, job, manifest, from),
            Task::Share { manifest, from } => {
                let store = self.shared.as_ref().ok_or_else(no_shared)?;
                transfer::copy(store, self, job, manifest, from)
            }
            Task::Parity { set, member, manifests, pieces } => {
                transfer::parity(&self.store, self, job, set, *member, manifests, pieces)
            }
        }
    }

    fn restore(&self, job: &Job, manifest: &crate::manifest::Manifest, source: Source) -> io::Result<()> {
        // Restoring begins with removing what is there, which must not be what it is restored from.
        let own = Keeper::Node(self.own.node.clone());
        let source = match source {
            Source::Whole(places) => {
                let is_own =
                    |place: &Place| place.keeper == own && matches!(place.object, crate::id::Object::Piece { .. });
                if places.iter().any(is_own) {
                    return Ok(());
                }
                Source::Whole(places)
            }
            rebuild => rebuild,
        };
        transfer::restore(&self.store, self, job, manifest, &source)
    }
}

/// The objects of a job in a store.
fn held(store: &Store<Disk>, keeper: &Keeper, job: &Job, verify: Option<CheckpointId>) -> (Vec<Held>, Vec<String>) {
    let (mut held, mut damaged) = (Vec::new(), Vec::new());
    let ids = store.checkpoints(job).unwrap_or_else(|error| {
        damaged.push(format!("{}: {error}", store.root().display()));
        Vec::new()
    });
    for id in ids {
        for object in store.objects(job, id).unwrap_or_default() {
            let label = match verify == Some(id) {
                true => store.verify(job, id, object),
                false => store.label(job, id, object),
            };
            match label {
                Ok(label) => held.push(Held { keeper: keeper.clone(), object, label, id }),
                Err(error) => damaged.push(error.to_string()),
            }
        }
    }
    (held, damaged)
}

fn prune(store: &Store<Disk>, job: &Job, keep: &BTreeSet<CheckpointId>, newest: CheckpointId) -> io::Result<()> {
    for id in store.checkpoints(job)?.into_iter().filter(|id| *id < newest && !keep.contains(id)) {
        store.remove(job, id)?;
    }
    Ok(())
}
