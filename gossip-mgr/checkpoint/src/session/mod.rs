//! What a rank does to write checkpoints and to restart from them: the Rust interface, on which SCR's stands.
//!
//! All calls are collective but [`Session::route`], and give all ranks the same answer.

mod find;
pub mod layout;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::agent::client::Client;
use crate::agent::wire::{Answer, Ask, Ended, LevelSettings, Progress, Welcome, random};
use crate::comm::Comm;
use crate::files::Disk;
use crate::id::{CheckpointId, Job, Level, Name, Object};
use crate::manifest::{Label, Manifest};
use crate::policy::Facts;
use crate::recovery::{Kept, to_keep};
use crate::store::Store;
use crate::topology::NoPlace;
use layout::Layout;

/// How long the agent may take to be started again when a job begins.
const PATIENCE: Duration = Duration::from_secs(10);
/// Programs ask in every step; the agent is asked this often.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// So is whether the node is well.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What went wrong. All ranks get the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Trouble {
    /// A node's agent does not answer.
    #[error(
        "rank {rank}: no checkpoint agent answers at {socket}: {why}. Start `gossip-mgr run` with a [checkpoint] section on \
         each node, or set GOSSIP_CHECKPOINT_SOCKET"
    )]
    NoAgent {
        /// Who says so.
        rank: u32,
        /// Where it should be.
        socket: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Nodes are configured differently.
    #[error("the nodes {one} and {other} have different checkpoint.nodes or checkpoint.levels: give all the same")]
    Configurations {
        /// A node.
        one: String,
        /// Another.
        other: String,
    },
    /// Another number of ranks.
    #[error(
        "job {job} has checkpoints of {then} ranks and now runs with {now}: start it with {then}, give this one another name \
         (SCR_JOB_NAME), or remove them: gossip-mgr job forget {job}"
    )]
    Ranks {
        /// Which job.
        job: String,
        /// Ranks of the checkpoints.
        then: u32,
        /// Ranks now.
        now: u32,
    },
    /// Another program.
    #[error(
        "job {job} has checkpoints of the program {then}, and this is {now}: give this one another name (SCR_JOB_NAME), or \
         remove them: gossip-mgr job forget {job}"
    )]
    Program {
        /// Which job.
        job: String,
        /// Whose checkpoints they are.
        then: String,
        /// Who wants to use them.
        now: String,
    },
    /// The nodes cannot hold a level.
    #[error("{0}")]
    Place(String),
    /// A rank could not write or read.
    #[error("{what} was given up as rank {rank} says: {why}. Older checkpoints are kept")]
    Rank {
        /// Which checkpoint.
        what: String,
        /// Who.
        rank: u32,
        /// What.
        why: String,
    },
    /// A call at the wrong time.
    #[error("{0}")]
    Order(Cow<'static, str>),
}

fn order(what: &'static str) -> Trouble {
    Trouble::Order(what.into())
}

impl From<NoPlace> for Trouble {
    fn from(error: NoPlace) -> Self {
        Self::Place(error.to_string())
    }
}

/// How a session is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The job's name, the same after a restart.
    pub job: Name,
    /// The program's name.
    pub program: String,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Where output is put, if a path is not absolute.
    pub prefix: PathBuf,
    /// Whether it was started before, so that there may be fewer nodes than its levels want.
    pub is_restarted: bool,
}

/// A checkpoint that can be restarted from; the rank's piece of it is on its node.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Offer {
    manifests: Vec<Manifest>,
    /// Those that it refers to.
    needed: Vec<(CheckpointId, Vec<Manifest>)>,
}

enum State {
    Idle,
    Restarting,
    Writing(Writing),
}

struct Writing {
    id: CheckpointId,
    name: String,
    level: Level,
    is_output: bool,
    /// Path of the program, and name in the piece's folder.
    files: Vec<(String, String)>,
    begin: Instant,
}

/// Leaving a node that fails: nothing, then a checkpoint, then the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    Wanted,
    Writing(CheckpointId),
    Ready,
}

/// A job's rank.
pub struct Session<C> {
    comm: C,
    agent: Client,
    welcome: Welcome,
    options: Options,
    job: Job,
    store: Store<Disk>,
    of_rank: Vec<usize>,
    levels: Vec<LevelSettings>,
    /// The first rank of its node speaks for it.
    leads: bool,
    attempt: u32,
    nonce: u32,
    number: u32,
    history: Vec<Kept>,
    /// Checkpoints of which this node's part was not begun.
    failed: BTreeSet<CheckpointId>,
    /// Checkpoints that did not come to their level.
    given_up: BTreeSet<CheckpointId>,
    excluded: BTreeSet<CheckpointId>,
    offer: Option<Offer>,
    restored: Option<Offer>,
    state: State,
    due: Option<Level>,
    needs: Vec<CheckpointId>,
    leaving: Leaving,
    swept: bool,
    started: Instant,
    /// Seconds after `started`; before it for those of earlier attempts.
    begun: [Option<f64>; 5],
    lost_a_node: bool,
    /// When the agent was last asked whether something is written in the background, and what it said.
    followed: (Instant, bool),
    blocking_s: [Option<f64>; 5],
    background_s: [Option<f64>; 5],
    bytes: u64,
    asked: Option<Instant>,
    looked: Option<Instant>,
    notes: Vec<String>,
}

/// Which rank leads each node.
fn leads(of_rank: &[usize], rank: u32) -> bool {
    !of_rank[..rank as usize].contains(&of_rank[rank as usize])
}

fn share<T: Serialize + DeserializeOwned>(comm: &impl Comm, value: Option<&T>) -> T {
    let bytes = value.map_or_else(Vec::new, |value| serde_json::to_vec(value).expect("plain data"));
    serde_json::from_slice(&comm.broadcast(bytes)).expect("rank 0 runs the same program")
}

fn collect<T: Serialize + DeserializeOwned>(comm: &impl Comm, value: &T) -> Vec<T> {
    let all = comm.gather(serde_json::to_vec(value).expect("plain data"));
    all.iter().map(|bytes| serde_json::from_slice(bytes).expect("all ranks run the same program")).collect()
}

impl<C: Comm> Session<C> {
    /// Finds this node's agent and the newest checkpoint that can be restarted from, and puts each rank's piece of it onto
    /// its node.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn start(comm: C, options: Options) -> Result<Self, Trouble> {
        let rank = comm.rank();
        let found = Client::connect(&options.socket, PATIENCE);
        let told = found.as_ref().map(|(_, welcome)| welcome.clone()).map_err(ToString::to_string);
        let all: Vec<(PathBuf, Result<Welcome, String>)> = collect(&comm, &(options.socket.clone(), told));
        let mut welcomes = Vec::new();
        for (rank, (socket, welcome)) in all.into_iter().enumerate() {
            welcomes.push(welcome.map_err(|why| Trouble::NoAgent { rank: rank as u32, socket, why })?);
        }
        let (agent, welcome) = found.map_err(|_| order("the agent answered and did not"))?;
        let first = &welcomes[0];
        if let Some(other) = welcomes.iter().find(|w| (&w.hosts, &w.levels) != (&first.hosts, &first.levels)) {
            let (one, other) = (first.node.to_string(), other.node.to_string());
            return Err(Trouble::Configurations { one, other });
        }
        let at = |w: &Welcome| welcome.hosts.iter().position(|host| host.name == w.node);
        let of_rank = welcomes.iter().map(at).collect::<Option<Vec<_>>>();
        let of_rank = of_rank.ok_or(order("an agent's node is not on its own list"))?;
        let job = Job { owner: welcome.owner, name: options.job.clone() };
        let nonce = random::<4>().map_or_else(|_| std::process::id(), u32::from_le_bytes);
        let mut session = Self {
            leads: leads(&of_rank, rank),
            nonce: share(&comm, Some(&nonce)),
            store: Store::new(Disk, &welcome.store),
            levels: welcome.levels.clone(),
            comm,
            agent,
            welcome,
            options,
            job,
            of_rank,
            attempt: 1,
            number: 0,
            history: Vec::new(),
            failed: BTreeSet::new(),
            given_up: BTreeSet::new(),
            excluded: BTreeSet::new(),
            offer: None,
            restored: None,
            state: State::Idle,
            due: None,
            needs: Vec::new(),
            leaving: Leaving::No,
            swept: false,
            started: Instant::now(),
            begun: [None; 5],
            lost_a_node: false,
            followed: (Instant::now(), false),
            blocking_s: [None; 5],
            background_s: [None; 5],
            bytes: 0,
            asked: None,
            looked: None,
            notes: Vec::new(),
        };
        session.find()?;
        session.check_levels()?;
        session.tell(Ended::Not);
        Ok(session)
    }

    /// A level that the nodes cannot hold is a mistake when a job begins. After a failure there are fewer nodes than there
    /// were, and going on without the level is better than not at all.
    fn check_levels(&mut self) -> Result<(), Trouble> {
        let layout = Layout { hosts: &self.welcome.hosts, of_rank: &self.of_rank };
        let mut fine = Vec::new();
        for settings in &self.levels {
            match layout.check(settings) {
                Ok(()) => fine.push(settings.clone()),
                Err(error) if self.attempt == 1 && !self.options.is_restarted => return Err(error.into()),
                Err(error) => self.notes.push(format!("going on without level {}: {error}", settings.level)),
            }
        }
        self.levels = fine;
        Ok(())
    }

    /// What a user should know, since it was last asked; the same on all ranks only in substance.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The rank.
    pub fn rank(&self) -> u32 {
        self.comm.rank()
    }

    /// The folder of what this rank writes or reads now.
    fn folder(&self, id: CheckpointId) -> PathBuf {
        self.store.piece_folder(&self.job, id, self.comm.rank())
    }

    /// The name of the checkpoint that can be restarted from.
    pub fn have_restart(&self) -> Option<&str> {
        self.offer.as_ref().map(|offer| offer.manifests[0].name.as_str())
    }

    /// Begins to read it; its name.
    ///
    /// # Errors
    /// If there is none, or something else goes on.
    pub fn start_restart(&mut self) -> Result<String, Trouble> {
        let name = self.have_restart().ok_or(order("there is no checkpoint to restart from"))?.to_owned();
        match self.state {
            State::Idle => self.state = State::Restarting,
            _ => return Err(order("a restart begins between other calls")),
        }
        Ok(name)
    }

    /// Where to write or read a file that the program calls `path`. Not collective.
    ///
    /// # Errors
    /// When a checkpoint is read: if it has no such file. When one is written: if the folder cannot be made.
    pub fn route(&mut self, path: &str) -> io::Result<PathBuf> {
        let base = Path::new(path).file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let base = base.ok_or_else(|| invalid(format!("`{path}` is no file's name, or begins with a dot")))?.to_owned();
        let rank = self.comm.rank() as usize;
        match &mut self.state {
            State::Idle => Ok(path.into()),
            State::Restarting => {
                let offer = self.offer.as_ref().ok_or_else(|| invalid("nothing is offered".into()))?;
                let manifest = &offer.manifests[rank];
                let exact = manifest.files.iter().find(|file| file.path == path);
                let file = exact.or_else(|| manifest.files.iter().find(|file| file.name == base));
                let file = file.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, format!("rank {rank} wrote no {path} to this checkpoint"))
                })?;
                let folder = self.store.piece_folder(&self.job, manifest.id, manifest.rank);
                Ok(folder.join(&file.name))
            }
            State::Writing(writing) => {
                let folder = self.store.piece_folder(&self.job, writing.id, rank as u32);
                if let Some((_, name)) = writing.files.iter().find(|(known, _)| known == path) {
                    return Ok(folder.join(name));
                }
                let is_taken = |name: &String| writing.files.iter().any(|(_, other)| other == name);
                let mut names = std::iter::once(base.clone()).chain((1..).map(|n| format!("{base}.{n}")));
                let name = names.find(|name| !is_taken(name)).expect("there are more names than files");
                std::fs::create_dir_all(&folder)?;
                writing.files.push((path.to_owned(), name.clone()));
                Ok(folder.join(name))
            }
        }
    }

    /// Says whether this rank has read its files; if some has not, the next older checkpoint is offered.
    ///
    /// # Errors
    /// If some rank has not.
    pub fn complete_restart(&mut self, valid: bool) -> Result<(), Trouble> {
        if !matches!(self.state, State::Restarting) {
            return Err(order("a restart is completed that was not started"));
        }
        self.state = State::Idle;
        let offer = self.offer.take().ok_or(order("there is no checkpoint to restart from"))?;
        let why = if valid { "" } else { "the program could not use its files" };
        match self.agree(offer.manifests[0].name.clone(), why) {
            Ok(()) => {
                self.restored = Some(offer);
                Ok(())
            }
            Err(trouble) => {
                self.excluded.insert(offer.manifests[0].id);
                self.find()?;
                Err(trouble)
            }
        }
    }

    /// All ranks' complaints: the first one, if there is any.
    fn agree(&self, what: String, why: &str) -> Result<(), Trouble> {
        let all: Vec<String> = collect(&self.comm, &why.to_owned());
        match all.into_iter().enumerate().find(|(_, why)| !why.is_empty()) {
            None => Ok(()),
            Some((rank, why)) => Err(Trouble::Rank { what, rank: rank as u32, why }),
        }
    }

    /// Whether a checkpoint should be written now.
    pub fn need_checkpoint(&mut self) -> bool {
        let mut values = [0, u64::from(self.is_failing()), u64::from(self.is_working())];
        if self.comm.rank() == 0 && self.due.is_none() && self.asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            self.asked = Some(Instant::now());
            values[0] = self.decided().map_or(0, |level| 1 + level.index() as u64);
        }
        self.comm.max(&mut values);
        self.note_health(values[1] != 0);
        if values[2] == 0 && self.has_open() {
            self.follow();
        }
        if let Some(level) = values[0].checked_sub(1) {
            self.due = Some(Level::ALL[level as usize]);
        }
        self.due.is_some()
    }

    /// Whether some checkpoint is on its way to its level.
    fn has_open(&self) -> bool {
        self.history.iter().any(|kept| !kept.is_complete && !self.given_up.contains(&kept.id))
    }

    /// Whether this node writes in the background, as its agent last said.
    fn is_working(&mut self) -> bool {
        if self.leads && self.followed.1 && self.followed.0.elapsed() >= LOOK_AGAIN {
            let is_running = match self.agent.ask(&Ask::Progress { job: self.job.clone() }) {
                Ok(Answer::Progress(work)) => work.iter().any(|(_, _, progress)| *progress == Progress::Running),
                _ => false,
            };
            self.followed = (Instant::now(), is_running);
        }
        self.followed.1
    }

    fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn is_failing(&mut self) -> bool {
        if !self.leads || self.leaving != Leaving::No || self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return false;
        }
        self.looked = Some(Instant::now());
        matches!(self.agent.ask(&Ask::Health), Ok(Answer::Health(Some(_))))
    }

    fn note_health(&mut self, is_failing: bool) {
        if is_failing && self.leaving == Leaving::No {
            self.leaving = Leaving::Wanted;
            self.notes.push("a node reports failing health: a checkpoint is due, then the job makes way".into());
        }
        if self.leaving == Leaving::Wanted {
            self.due = Some(self.safest());
        }
    }

    /// The last level of the list that does not need this node.
    fn safest(&self) -> Level {
        self.levels.iter().map(|settings| settings.level).rfind(|&level| level != Level::Local).unwrap_or(Level::Local)
    }

    /// Asks what is due. Without an agent nothing is, so a program whose agent is down goes on computing.
    fn decided(&mut self) -> Option<Level> {
        let now = self.elapsed_s();
        let facts = Facts {
            elapsed_s: now,
            since_s: self.begun.map(|at| at.map(|at| now - at)),
            blocking_s: self.blocking_s,
            background_s: self.background_s,
            bytes_per_rank: self.bytes,
            ranks: self.comm.size(),
            nodes: Layout { hosts: &self.welcome.hosts, of_rank: &self.of_rank }.used().len() as u32,
            attempt: self.attempt,
            lost_a_node: self.lost_a_node,
            withheld: [false; 5],
        };
        match self.agent.ask(&Ask::Decide { job: self.job.clone(), facts }) {
            Ok(Answer::Decided(level)) => level,
            _ => None,
        }
    }

    /// Whether the program should end now, to be started elsewhere.
    pub fn should_exit(&mut self) -> bool {
        if matches!(self.leaving, Leaving::Writing(_)) {
            self.follow();
        }
        self.leaving == Leaving::Ready
    }

    /// Begins to write one; none as a name gives it one.
    ///
    /// # Errors
    /// If something else goes on.
    pub fn start_output(&mut self, name: Option<&str>, is_output: bool) -> Result<(), Trouble> {
        if !matches!(self.state, State::Idle) {
            return Err(order("an output begins between other calls"));
        }
        let begin = Instant::now();
        let mut values = [u64::from(self.is_failing()), 0];
        if self.comm.rank() == 0 && self.due.is_none() {
            values[1] = self.decided().map_or(0, |level| 1 + level.index() as u64);
        }
        self.comm.max(&mut values);
        self.note_health(values[0] != 0);
        let asked = values[1].checked_sub(1).map(|level| Level::ALL[level as usize]);
        let wanted = self.due.take().or(asked).unwrap_or(Level::Local);
        let busy = self.follow();
        let is_used = self.levels.iter().any(|settings| settings.level == wanted);
        let level = if is_used && !busy.contains(&wanted) { wanted } else { Level::Local };
        if busy.contains(&wanted) {
            self.notes.push(format!("level {wanted} is still being written: this checkpoint is only local"));
        }
        self.prune();
        self.number += 1;
        let id = CheckpointId { attempt: self.attempt, number: self.number, nonce: self.nonce };
        let name = name.map_or_else(|| format!("checkpoint.{}", id.number), str::to_owned);
        self.needs.clear();
        self.begun[level.index()] = Some(begin.duration_since(self.started).as_secs_f64());
        self.state = State::Writing(Writing { id, name, level, is_output, files: Vec::new(), begin });
        Ok(())
    }

    /// What is being written, and at which level.
    pub fn writing(&self) -> Option<(CheckpointId, Level)> {
        match &self.state {
            State::Writing(writing) => Some((writing.id, writing.level)),
            _ => None,
        }
    }

    /// Says that what is being written refers to blocks of these, which are kept as long. The same on all ranks.
    pub fn refer_to(&mut self, needs: Vec<CheckpointId>) {
        self.needs = needs;
    }

    /// A checkpoint that is as safe as `level` is, to refer to from one of that level: the newest that is complete, written
    /// by these processes.
    pub fn base(&self, level: Level) -> Option<CheckpointId> {
        let own = |kept: &&Kept| kept.id.attempt == self.attempt && kept.id.nonce == self.nonce;
        let safe = |kept: &&Kept| level == Level::Local || (kept.level == level && kept.is_complete);
        self.history.iter().rev().filter(own).find(safe).map(|kept| kept.id)
    }

    /// Whether nothing goes on in the background: each checkpoint is at its level, or that was given up.
    pub fn is_settled(&mut self) -> bool {
        self.follow();
        self.history.iter().all(|kept| kept.is_complete || self.given_up.contains(&kept.id))
    }

    /// Looks at what goes on in the background: notes what is complete, and gives the levels that are under way.
    fn follow(&mut self) -> BTreeSet<Level> {
        let is_open = |kept: &&Kept| !kept.is_complete && !self.given_up.contains(&kept.id);
        let open: Vec<(CheckpointId, Level)> =
            self.history.iter().filter(is_open).map(|kept| (kept.id, kept.level)).collect();
        // For each 0 done, 1 running, 2 failed; then the same for the seconds it took, in milliseconds.
        let mut values = vec![0; 5 + 2 * open.len()];
        if self.leads {
            let work = match self.agent.ask(&Ask::Progress { job: self.job.clone() }) {
                Ok(Answer::Progress(work)) => work,
                _ => Vec::new(),
            };
            for (_, level, progress) in &work {
                values[level.index()] |= u64::from(*progress == Progress::Running);
            }
            for (at, (id, level)) in open.iter().enumerate() {
                let known = work.iter().find(|(known, known_level, _)| known == id && known_level == level);
                let (code, seconds) = match known {
                    _ if self.failed.contains(id) => (2, 0.0),
                    Some((_, _, Progress::Done { seconds })) => (0, *seconds),
                    Some((_, _, Progress::Running)) => (1, 0.0),
                    Some((_, _, Progress::Failed(_))) | None => (2, 0.0),
                };
                values[5 + 2 * at] = code;
                values[6 + 2 * at] = (seconds * 1e3) as u64;
            }
        }
        self.comm.max(&mut values);
        for (at, (id, level)) in open.into_iter().enumerate() {
            let (code, seconds) = (values[5 + 2 * at], values[6 + 2 * at] as f64 / 1e3);
            match code {
                0 => self.completed(id, level, seconds),
                2 => {
                    self.given_up.insert(id);
                    self.tell_policy(level, None);
                }
                _ => {}
            }
            match self.leaving {
                Leaving::Writing(last) if last == id && code == 0 => self.leaving = Leaving::Ready,
                // It is tried again, at the same level, with the next checkpoint.
                Leaving::Writing(last) if last == id && code == 2 => self.leaving = Leaving::Wanted,
                _ => {}
            }
        }
        Level::ALL.into_iter().filter(|level| values[level.index()] != 0).collect()
    }

    fn completed(&mut self, id: CheckpointId, level: Level, seconds: f64) {
        for kept in self.history.iter_mut().filter(|kept| kept.id == id) {
            kept.is_complete = true;
        }
        self.background_s[level.index()] = Some(seconds);
        self.tell_policy(level, Some((self.blocking_s[level.index()].unwrap_or(0.0), seconds)));
    }

    fn tell_policy(&mut self, level: Level, took_s: Option<(f64, f64)>) {
        if self.comm.rank() == 0 {
            let _ = self.agent.ask(&Ask::Finished { job: self.job.clone(), level, took_s });
        }
    }

    /// Removes what is not needed any more. What cannot be removed now is next time.
    fn prune(&mut self) {
        let keep = to_keep(&self.history);
        self.history.retain(|kept| keep.contains(&kept.id));
        self.failed.retain(|id| keep.contains(id));
        self.given_up.retain(|id| keep.contains(id));
        let Some(newest) = self.history.last().map(|kept| kept.id) else { return };
        let job = || self.job.clone();
        if self.leads {
            let _ = self.agent.ask(&Ask::Prune { job: job(), keep: keep.clone(), newest });
        }
        if self.comm.rank() == 0 {
            let _ = self.agent.ask(&Ask::PruneShared { job: job(), keep, newest });
        }
    }

    /// Says whether this rank has written its files. If all have, the checkpoint exists, and is brought to its level in the
    /// background.
    ///
    /// # Errors
    /// If some rank has not; then there is none, and older ones are as they were.
    pub fn complete_output(&mut self, valid: bool) -> Result<(), Trouble> {
        let State::Writing(writing) = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(order("an output is completed that was not started"));
        };
        let sealed = if valid { self.seal(&writing) } else { Err("the program could not write its files".into()) };
        let all: Vec<Result<Manifest, String>> = collect(&self.comm, &sealed);
        let mut manifests = Vec::new();
        for (rank, sealed) in all.into_iter().enumerate() {
            match sealed {
                Ok(manifest) => manifests.push(manifest),
                Err(why) => {
                    self.discard(writing.id);
                    return Err(Trouble::Rank { what: writing.name, rank: rank as u32, why });
                }
            }
        }
        let Writing { id, level, .. } = writing;
        self.bytes = manifests.iter().map(Manifest::length).max().unwrap_or(0);
        self.history.push(Kept { id, level, is_complete: level == Level::Local, needs: manifests[0].needs.clone() });
        self.blocking_s[level.index()] = Some(writing.begin.elapsed().as_secs_f64());
        if level == Level::Local {
            self.completed(id, level, 0.0);
        } else {
            self.protect(&manifests);
        }
        if self.leaving == Leaving::Wanted {
            self.leaving = if level == self.safest() { Leaving::Writing(id) } else { Leaving::Wanted };
            if level == Level::Local && self.leaving != Leaving::Wanted {
                self.leaving = Leaving::Ready;
            }
        }
        if !self.swept {
            // What earlier attempts left and cannot be restarted from.
            self.swept = true;
            if self.comm.rank() == 0 {
                let keep = to_keep(&self.history);
                let _ = self.agent.ask(&Ask::PruneAll { job: self.job.clone(), keep, newest: id });
            }
        }
        if writing.is_output { self.put_out(&manifests[self.comm.rank() as usize]) } else { Ok(()) }
    }

    /// Makes this rank's piece complete.
    fn seal(&self, writing: &Writing) -> Result<Manifest, String> {
        let rank = self.comm.rank();
        let files =
            self.store.gather(&self.job, writing.id, rank, &writing.files).map_err(|error| error.to_string())?;
        let manifest = Manifest {
            id: writing.id,
            name: writing.name.clone(),
            program: self.options.program.clone(),
            rank,
            ranks: self.comm.size(),
            level: writing.level,
            written_at: crate::agent::wire::clock() as u64,
            needs: self.needs.clone(),
            files,
        };
        let label = Label::Piece(manifest.clone());
        let written = self.store.write(&self.job, writing.id, Object::Piece { rank }, &label, || Ok(Vec::new()));
        let shown = || self.store.path(&self.job, writing.id, Object::Piece { rank }).display().to_string();
        written.map_err(|error| format!("{}: {error}", shown()))?;
        Ok(manifest)
    }

    fn discard(&self, id: CheckpointId) {
        let rank = self.comm.rank();
        // The rest of the checkpoint's folder goes when it is pruned; no rank's failure may remove another's files.
        let _ = std::fs::remove_file(self.store.path(&self.job, id, Object::Piece { rank }));
        let _ = std::fs::remove_dir_all(self.folder(id));
    }

    /// Lets this node's agent do its part for a checkpoint's level.
    fn protect(&mut self, manifests: &[Manifest]) {
        let (id, level) = (manifests[0].id, manifests[0].level);
        if !self.leads {
            return;
        }
        self.followed = (Instant::now(), true);
        let Some(settings) = self.levels.iter().find(|settings| settings.level == level) else {
            self.failed.insert(id);
            return;
        };
        let layout = Layout { hosts: &self.welcome.hosts, of_rank: &self.of_rank };
        let begun = layout
            .tasks(settings, manifests, self.of_rank[self.comm.rank() as usize])
            .map_err(|error| error.to_string())
            .and_then(|tasks| {
                let ask = Ask::Begin { job: self.job.clone(), id, level, tasks };
                match self.agent.ask(&ask) {
                    Ok(Answer::Done) => Ok(()),
                    Ok(_) => Err("one is under way".into()),
                    Err(error) => Err(error.to_string()),
                }
            });
        if let Err(why) = begun {
            self.failed.insert(id);
            self.notes.push(format!("{}: no level {level} for {}: {why}", self.welcome.node, manifests[0].name));
        }
    }

    /// Copies this rank's files to where the program calls them.
    fn put_out(&self, manifest: &Manifest) -> Result<(), Trouble> {
        let put = |file: &crate::manifest::File| -> io::Result<()> {
            let to = self.options.prefix.join(&file.path);
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut unfinished = to.clone().into_os_string();
            unfinished.push(".unfinished");
            let unfinished = PathBuf::from(unfinished);
            std::fs::copy(self.folder(manifest.id).join(&file.name), &unfinished)?;
            std::fs::File::open(&unfinished)?.sync_all()?;
            std::fs::rename(&unfinished, &to)
        };
        let failed =
            manifest.files.iter().find_map(|file| put(file).err().map(|error| format!("{}: {error}", file.path)));
        self.agree(manifest.name.clone(), &failed.unwrap_or_default())
    }

    fn tell(&mut self, ended: Ended) {
        if self.leads {
            let _ = self.agent.ask(&Ask::Ending { job: self.job.clone(), attempt: self.attempt, ended });
        }
    }

    /// Ends the session. Work in the background goes on without it.
    pub fn finish(mut self) -> Vec<String> {
        let ended = if self.leaving == Leaving::Ready { Ended::MakesWay } else { Ended::Finished };
        self.tell(ended);
        // Nobody's processes end before all have been heard.
        self.comm.gather(Vec::new());
        self.notes
    }
}
