//! `[checkpoint]` of the configuration, and the agent that the daemon starts for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gossip_checkpoint::agent::wire::LevelSettings;
use gossip_checkpoint::agent::{Agent, Health, Peer, Settings, StartError, default_socket};
use gossip_checkpoint::id::{Level, Name};
use gossip_checkpoint::policy::Policy;
use gossip_checkpoint::topology::Host;
use gossip_checkpoint_model::Failures;
use gossip_core::seal::Key;
use serde::Deserialize;

use crate::coordinate::{Address, Link};
use crate::policy::{Choice, Coordinated, MachineSection, Model, Own};

/// Checkpoints of jobs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSection {
    /// This node's name on the list.
    pub node: Name,
    /// Folder of this node's store: memory (/dev/shm) or its own disk.
    pub store: PathBuf,
    /// Folder on storage that all nodes share.
    pub shared: Option<PathBuf>,
    /// Socket for programs on this node.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// If this file is there, the node is about to fail and jobs leave it.
    pub failing_file: Option<PathBuf>,
    /// All nodes, the same list on each.
    pub nodes: Vec<NodeEntry>,
    /// Levels in use, from cheap to safe, the same on each.
    #[serde(default = "default_levels")]
    pub levels: Vec<LevelEntry>,
    /// Who decides when a level is due.
    #[serde(default)]
    pub policy: Choice,
    /// What fails how often, for the model and the coordinator.
    #[serde(default)]
    pub failures: Failures,
    /// What writing takes, before it is measured.
    #[serde(default)]
    pub machine: MachineSection,
    /// For how long a job works, in hours.
    #[serde(default = "day")]
    pub work_hours: f64,
    /// Who is asked before something is written to shared storage.
    pub coordinator: Option<Address>,
}

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// Its name.
    pub name: Name,
    /// Where its agent listens.
    pub address: SocketAddr,
    /// Labels of what it shares with others: those with a label in common fail together.
    #[serde(default)]
    pub shares: BTreeSet<String>,
    /// What mpirun calls it; none if it is on this machine.
    pub host: Option<String>,
    /// Its gossip address: if the others declare that dead, the job is started elsewhere.
    pub gossip: Option<SocketAddr>,
    /// Its agent's socket, if not the usual one.
    pub socket: Option<PathBuf>,
    /// How many ranks it takes.
    #[serde(default = "one")]
    pub slots: usize,
}

/// A level.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelEntry {
    /// Which.
    pub kind: Level,
    /// Members of a group (k + m).
    #[serde(default = "eight")]
    pub group: usize,
    /// How many of them may be lost (m).
    #[serde(default = "two")]
    pub parities: usize,
    /// Seconds between two.
    pub interval_s: f64,
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn eight() -> usize {
    8
}

fn day() -> f64 {
    24.0
}

fn default_levels() -> Vec<LevelEntry> {
    let level = |kind, interval_s| LevelEntry { kind, group: eight(), parities: two(), interval_s };
    vec![level(Level::Local, 60.0), level(Level::Partner, 600.0)]
}

impl CheckpointSection {
    /// What TOML's types cannot say: whether it holds, the key, its value, and what is allowed.
    pub fn rules(&self, has_key: bool) -> Vec<(bool, &'static [&'static str], String, &'static str)> {
        let names: BTreeSet<&Name> = self.nodes.iter().map(|node| &node.name).collect();
        let kinds: BTreeSet<Level> = self.levels.iter().map(|level| level.kind).collect();
        let parity = |level: &&LevelEntry| matches!(level.kind, Level::Xor | Level::ReedSolomon);
        let small = self.levels.iter().filter(parity).find(|level| level.group <= level.own_parities());
        let hasty = self.levels.iter().find(|level| !(level.interval_s > 0.0 && level.interval_s.is_finite()));
        let is_shared = kinds.contains(&Level::Shared);
        let wrong = self.failures.check().err().map(|error| error.to_string());
        let is_remote = matches!(self.coordinator, Some(Address::Tcp(_)));
        vec![
            (
                wrong.is_none(),
                &["checkpoint.failures"],
                format!("such that {}", wrong.unwrap_or_default()),
                "hours above 0 (inf for never) and seconds of at least 0 are allowed",
            ),
            (
                self.machine.makes_sense(),
                &["checkpoint.machine"],
                format!("{:?}", self.machine),
                "gigabytes a second above 0 are allowed",
            ),
            (
                self.work_hours > 0.0 && self.work_hours.is_finite(),
                &["checkpoint.work_hours"],
                self.work_hours.to_string(),
                "a positive number of hours is needed",
            ),
            (
                has_key || !is_remote,
                &["checkpoint.coordinator", "node.key_file"],
                self.coordinator.as_ref().map_or(String::new(), Address::to_string),
                "a key in node.key_file is needed, as the coordinator and the nodes prove to each other that they have it",
            ),
            (
                names.contains(&self.node),
                &["checkpoint.node"],
                self.node.to_string(),
                "one of the names in checkpoint.nodes is allowed",
            ),
            (
                names.len() == self.nodes.len(),
                &["checkpoint.nodes"],
                "a list with a name twice".into(),
                "each node has its own name",
            ),
            (
                has_key || self.nodes.len() == 1,
                &["checkpoint.nodes", "node.key_file"],
                "a list of several".into(),
                "a key in node.key_file is needed, as the nodes' agents prove to each other that they have it",
            ),
            (
                !is_shared || self.shared.is_some(),
                &["checkpoint.levels"],
                "shared".into(),
                "for this level a folder in checkpoint.shared is needed",
            ),
            (
                kinds.len() == self.levels.len(),
                &["checkpoint.levels"],
                "a list with a kind twice".into(),
                "each kind may be there once",
            ),
            (
                small.is_none(),
                &["checkpoint.levels"],
                small.map_or(String::new(), |level| format!("{} with group {}", level.kind, level.group)),
                "a group (k + m) larger than its parities (m) is needed",
            ),
            (
                hasty.is_none(),
                &["checkpoint.levels"],
                hasty.map_or(String::new(), |level| format!("{} with interval_s {}", level.kind, level.interval_s)),
                "a positive number of seconds is needed",
            ),
        ]
    }

    /// Starts the agent. `is_failing` is what the daemon's sensors say.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(&self, key: &Key, is_failing: Arc<AtomicBool>) -> Result<Agent, StartError> {
        let peer = |node: &NodeEntry| Peer {
            host: Host { name: node.name.clone(), shares: node.shares.clone() },
            address: node.address,
        };
        let level = |level: &LevelEntry| LevelSettings {
            level: level.kind,
            group: level.group,
            parities: level.own_parities(),
            interval_s: level.interval_s,
        };
        let file = self.failing_file.clone();
        let health: Health = Box::new(move || match &file {
            Some(file) if file.exists() => Some(format!("{} is there", file.display())),
            _ => is_failing.load(Ordering::Relaxed).then(|| "it is too hot".into()),
        });
        Agent::start(Settings {
            node: self.node.clone(),
            store: self.store.clone(),
            shared: self.shared.clone(),
            socket: self.socket.clone(),
            nodes: self.nodes.iter().map(peer).collect(),
            levels: self.levels.iter().map(level).collect(),
            key: key.of_checkpoints(),
            health,
            policy: self.policy(key),
        })
    }

    /// Who decides, as configured.
    fn policy(&self, key: &Key) -> Box<dyn Policy> {
        let own = match self.policy {
            Choice::Fixed => Own::fixed(&self.levels, &self.failures),
            Choice::Model => Own::Model(Model::new(&self.levels, &self.failures, self.machine, self.work_hours)),
        };
        match &self.coordinator {
            Some(address) => Box::new(Coordinated::new(own, Link::new(address.clone(), key.of_coordinators()))),
            None => Box::new(own),
        }
    }
}

impl LevelEntry {
    /// An exclusive or is one parity, whatever else is said.
    pub fn own_parities(&self) -> usize {
        if self.kind == Level::Xor { 1 } else { self.parities }
    }
}
