//! The configuration file: TOML, every key optional, unknown keys refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use gossip_core::detector::Tuning;
use gossip_core::node::Settings;
use serde::Deserialize;

use crate::checkpoint::CheckpointSection;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type; the text names line and key.
    #[error("{}: {}", path.display(), plain(error))]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        error: Box<toml::de::Error>,
    },
    /// A value that is not allowed, or that contradicts another.
    #[error("{}{}: {key} is {value}: {allowed}", path.display(), in_line(*line))]
    Value {
        /// The file.
        path: PathBuf,
        /// The line of the key, or of the one that it contradicts; none if a default is not allowed here.
        line: Option<usize>,
        /// The key with its section.
        key: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

fn in_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

/// What a person wants to read of it: Rust's names of types and Rust's words for addresses say little.
fn plain(error: &toml::de::Error) -> String {
    let all = error.to_string();
    let message = error.message();
    let place = all.trim_end().strip_suffix(message).unwrap_or_default();
    let (got, wanted) = message.rsplit_once("expected ").unwrap_or((message, ""));
    match (got, wanted) {
        ("invalid socket address syntax", _) => {
            format!("{place}an IP address and a port are allowed, as 10.0.0.1:7600 or [fd00::1]:7600")
        }
        (got, "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64") => {
            format!("{place}{}a whole number is allowed, as docs/gossip-mgr.md has it", got.replace(" as i128", ""))
        }
        _ => format!("{place}{message}"),
    }
}

/// The whole file. See docs/gossip-mgr.md for a description of each key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[node]`
    pub node: NodeSection,
    /// `[gossip]`
    pub gossip: GossipSection,
    /// `[detection]`
    pub detection: DetectionSection,
    /// `[control]`
    pub control: ControlSection,
    /// `[metrics]`
    pub metrics: MetricsSection,
    /// `[sensors]`
    pub sensors: SensorsSection,
    /// `[advice]`
    pub advice: AdviceSection,
    /// `[checkpoint]`; without it the node keeps no checkpoints.
    pub checkpoint: Option<CheckpointSection>,
}

/// Who this node is and how it finds others.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSection {
    /// UDP address to receive on.
    pub listen: SocketAddr,
    /// Address at which others reach this node, if not `listen`.
    pub advertise: Option<SocketAddr>,
    /// Nodes through which to join.
    pub seeds: Vec<SocketAddr>,
    /// File with the cluster's key; needed unless this node is alone.
    pub key_file: Option<PathBuf>,
    /// Folder in which the number of this node's life is kept.
    pub state_dir: PathBuf,
}

impl Default for NodeSection {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7600));
        Self { listen, advertise: None, seeds: Vec::new(), key_file: None, state_dir: state_dir() }
    }
}

/// Systemd's choice, or where a service's state is by custom: it must outlast a reboot.
fn state_dir() -> PathBuf {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = folder("STATE_DIRECTORY") {
        return own;
    }
    let users = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let all = users.filter(|_| !nix::unistd::geteuid().is_root()).unwrap_or_else(|| "/var/lib".into());
    all.join("gossip-mgr")
}

/// The bulletin board.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipSection {
    /// Milliseconds between two pushes.
    pub interval_ms: u64,
    /// Entries up to this many intervals old are passed on.
    pub window: u32,
    /// Most nodes in a colony.
    pub colony: u32,
    /// Nodes that hear of all colonies.
    pub masters: u32,
    /// Largest payload of a datagram in bytes.
    pub payload: usize,
}

impl Default for GossipSection {
    fn default() -> Self {
        Self { interval_ms: 256, window: 8, colony: 1_024, masters: 3, payload: 1_300 }
    }
}

/// Failure detection, in periods where nothing else is said.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionSection {
    /// Milliseconds of a period.
    pub period_ms: u64,
    /// Shortest suspicion window.
    pub shortest: f64,
    /// Longest suspicion window.
    pub longest: f64,
    /// Confirmations that make the window shortest.
    pub confirmations: u32,
    /// φ from which on a silent node is pinged.
    pub phi: f64,
    /// Periods after which a dead node is forgotten.
    pub forget: u32,
}

impl Default for DetectionSection {
    fn default() -> Self {
        let Tuning { period, shortest, longest, confirmations, phi, forget, .. } = Tuning::default();
        Self { period_ms: period / 1_000, shortest, longest, confirmations, phi, forget }
    }
}

/// The local control socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlSection {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

impl Default for ControlSection {
    fn default() -> Self {
        // A login of root has a folder of its own, in which the daemon that systemd started is not.
        let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::geteuid().is_root());
        let dir = own.map_or_else(|| "/run".into(), PathBuf::from);
        Self { socket: dir.join("gossip-mgr.sock") }
    }
}

/// The Prometheus endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSection {
    /// TCP address; no endpoint without.
    pub listen: Option<SocketAddr>,
}

/// Where measurements come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorsSection {
    /// Milliseconds between two measurements.
    pub interval_ms: u64,
    /// Degrees Celsius from which on the node counts as hot.
    pub max_temperature: i16,
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
}

impl Default for SensorsSection {
    fn default() -> Self {
        Self { interval_ms: 1_000, max_temperature: 90, proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// Decisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdviceSection {
    /// Seconds between two decisions.
    pub interval_s: u64,
    /// Percentage points of load above the mean from which on a node should give work.
    pub threshold: f64,
    /// Only write down what would be done.
    pub dry_run: bool,
    /// File to which every decision is appended as a line of JSON.
    pub audit_log: Option<PathBuf>,
    /// Program that acts: called with the decision as JSON on its standard input.
    pub hook: Option<PathBuf>,
    /// Seconds after which the hook is ended.
    pub hook_timeout_s: u64,
}

impl Default for AdviceSection {
    fn default() -> Self {
        Self { interval_s: 10, threshold: 25.0, dry_run: true, audit_log: None, hook: None, hook_timeout_s: 10 }
    }
}

/// A rule of the configuration: whether it holds, which keys it is about (the first is the one to change),
/// what that one is, and what is allowed.
struct Rule {
    holds: bool,
    keys: &'static [&'static str],
    value: String,
    allowed: &'static str,
}

/// What the kernel takes as the address of a Unix socket, without the byte that ends it (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// The line of `key`, written `section.name`, in a file that parses.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let file = toml::de::DeTable::parse(text).ok()?;
    let (section, name) = key.split_once('.')?;
    let section = file.get_ref().get(section)?.get_ref().as_table()?;
    let (key, _) = section.get_key_value(name)?;
    Some(1 + text[..key.span().start].matches('\n').count())
}

fn is_reachable(addr: SocketAddr) -> bool {
    !addr.ip().is_unspecified() && addr.port() != 0
}

impl Config {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
        Self::parse(&text, path)
    }

    /// Parses and checks `text`, which came from `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::Parse { path: path.into(), error: Box::new(error) })?;
        match config.rules().into_iter().find(|rule| !rule.holds) {
            None => Ok(config),
            Some(Rule { keys, value, allowed, .. }) => {
                let line = keys.iter().find_map(|key| line_of(text, key));
                Err(ConfigError::Value { path: path.into(), line, key: keys[0], value, allowed })
            }
        }
    }

    /// What TOML's types cannot say.
    fn rules(&self) -> Vec<Rule> {
        let Self { node, gossip, detection, control, sensors, advice, .. } = self;
        let GossipSection { interval_ms, window, colony, masters, payload } = *gossip;
        let DetectionSection { period_ms, shortest, longest, confirmations, phi, forget } = *detection;
        let advertised = self.advertised();
        let family = node.listen.is_ipv4();
        let stranger = node.seeds.iter().find(|seed| seed.is_ipv4() != family || !is_reachable(**seed));
        let lonely = node.seeds.is_empty() && node.listen.ip().is_loopback();
        let mut rules = Vec::new();
        let mut rule = |holds, keys, value: &dyn std::fmt::Display, allowed| {
            rules.push(Rule { holds, keys, value: value.to_string(), allowed });
        };
        rule(
            is_reachable(advertised),
            &["node.advertise", "node.listen"],
            &advertised,
            "with a wildcard address or port in node.listen an address that others can reach is needed here",
        );
        rule(
            advertised.is_ipv4() == family,
            &["node.advertise", "node.listen"],
            &advertised,
            "IPv4 or IPv6, as node.listen",
        );
        rule(
            stranger.is_none(),
            &["node.seeds"],
            &stranger.copied().unwrap_or(advertised),
            "addresses and ports of nodes are allowed, IPv4 or IPv6 as node.listen",
        );
        rule(
            node.key_file.is_some() || lonely,
            &["node.key_file", "node.seeds", "node.listen"],
            &"missing",
            "a key is needed unless the node listens on loopback and has no seeds",
        );
        rule(
            control.socket.as_os_str().len() <= LONGEST_SOCKET,
            &["control.socket"],
            &control.socket.display(),
            "a path of at most 107 bytes is allowed",
        );
        rule((10..=60_000).contains(&interval_ms), &["gossip.interval_ms"], &interval_ms, "10 to 60000 are allowed");
        rule((1..=1_000).contains(&window), &["gossip.window"], &window, "1 to 1000 are allowed");
        rule((2..=65_536).contains(&colony), &["gossip.colony"], &colony, "2 to 65536 are allowed");
        rule((1..=1_024).contains(&masters), &["gossip.masters"], &masters, "1 to 1024 are allowed");
        rule((512..=8_000).contains(&payload), &["gossip.payload"], &payload, "512 to 8000 bytes are allowed");
        rule((50..=600_000).contains(&period_ms), &["detection.period_ms"], &period_ms, "50 to 600000 are allowed");
        rule(
            interval_ms <= period_ms,
            &["gossip.interval_ms", "detection.period_ms"],
            &interval_ms,
            "it must not be above detection.period_ms, as pushes are the probes",
        );
        rule((1.0..=1_000.0).contains(&shortest), &["detection.shortest"], &shortest, "1 to 1000 periods are allowed");
        rule(
            (shortest..=1_000.0).contains(&longest),
            &["detection.longest", "detection.shortest"],
            &longest,
            "detection.shortest to 1000 periods are allowed",
        );
        rule(
            (1..=1_000).contains(&confirmations),
            &["detection.confirmations"],
            &confirmations,
            "1 to 1000 are allowed",
        );
        rule((0.1..=100.0).contains(&phi), &["detection.phi"], &phi, "0.1 to 100 are allowed");
        rule(
            (20..=1_000_000).contains(&forget) && f64::from(forget) >= 2.0 * longest,
            &["detection.forget", "detection.longest"],
            &forget,
            "20 to 1000000 periods are allowed, and at least twice detection.longest",
        );
        rule(
            (100..=3_600_000).contains(&sensors.interval_ms),
            &["sensors.interval_ms"],
            &sensors.interval_ms,
            "100 to 3600000 are allowed",
        );
        rule(
            (1..=200).contains(&sensors.max_temperature),
            &["sensors.max_temperature"],
            &sensors.max_temperature,
            "1 to 200 degrees Celsius are allowed",
        );
        rule(
            (1..=86_400).contains(&advice.interval_s),
            &["advice.interval_s"],
            &advice.interval_s,
            "1 to 86400 are allowed",
        );
        rule(
            (0.0..=10_000.0).contains(&advice.threshold),
            &["advice.threshold"],
            &advice.threshold,
            "0 to 10000 percentage points are allowed",
        );
        rule(
            advice.dry_run || advice.hook.is_some(),
            &["advice.dry_run"],
            &"false",
            "to act a program in advice.hook is needed",
        );
        rule(
            (1..=86_400).contains(&advice.hook_timeout_s),
            &["advice.hook_timeout_s"],
            &advice.hook_timeout_s,
            "1 to 86400 are allowed",
        );
        let checkpoint = self.checkpoint.iter().flat_map(|section| section.rules(node.key_file.is_some()));
        for (holds, keys, value, allowed) in checkpoint {
            rule(holds, keys, &value, allowed);
        }
        rules
    }

    /// The address at which others reach this node.
    pub fn advertised(&self) -> SocketAddr {
        self.node.advertise.unwrap_or(self.node.listen)
    }

    /// What the core needs to know.
    pub fn settings(&self) -> Settings {
        let GossipSection { interval_ms, window, colony, masters, payload } = self.gossip;
        let DetectionSection { period_ms, shortest, longest, confirmations, phi, forget } = self.detection;
        let period = period_ms * 1_000;
        let detection = Tuning { period, shortest, longest, confirmations, phi, answer: period / 4, forget };
        let gossip_interval = interval_ms * 1_000;
        Settings { gossip_interval, window, colony, masters, payload, detection }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("g.toml")).unwrap_err().to_string()
    }

    #[test]
    fn nothing_need_be_configured() {
        let config = Config::parse("", Path::new("g.toml")).unwrap();
        assert_eq!(config.settings(), Settings::default());
        assert!(config.advice.dry_run);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = error("[gossip]\nwindow = 8\nintervall_ms = 3\n");
        assert!(error.contains("g.toml") && error.contains("intervall_ms"), "{error}");
        assert!(error.contains("line 3") && error.contains("interval_ms"), "{error}");
    }

    #[test]
    fn a_contradiction_is_explained() {
        let text = "[gossip]\ninterval_ms = 2000\n[detection]\nperiod_ms = 1000\n";
        assert!(error(text).contains("gossip.interval_ms is 2000"));
        assert!(error("[node]\nlisten = '0.0.0.0:7600'\n").contains("node.advertise"));
        assert!(error("[node]\nseeds = ['10.0.0.1:7600']\n").contains("node.key_file"));
        assert!(error("[advice]\ndry_run = false\n").contains("advice.hook"));
        assert!(error("[detection]\nshortest = 7.0\n").contains("detection.longest"));
    }

    #[test]
    fn a_value_that_is_not_allowed_is_told_with_file_line_key_and_what_is_allowed() {
        let wrong = [
            ("gossip", "masters", "0", "1 to 1024"),
            ("detection", "confirmations", "0", "1 to 1000"),
            ("detection", "phi", "nan", "0.1 to 100"),
            ("detection", "shortest", "nan", "1 to 1000 periods"),
            ("detection", "forget", "3", "20 to 1000000"),
            ("sensors", "max_temperature", "-1", "1 to 200"),
            ("sensors", "interval_ms", "0", "100 to"),
            ("advice", "interval_s", "0", "1 to 86400"),
            ("advice", "threshold", "nan", "0 to 10000"),
            ("advice", "threshold", "-1.0", "0 to 10000"),
            ("advice", "hook_timeout_s", "0", "1 to 86400"),
            ("node", "seeds", "['[::1]:7600']", "IPv4 or IPv6 as node.listen"),
            ("node", "seeds", "['10.0.0.1:0']", "addresses and ports"),
            ("node", "advertise", "'[::1]:7600'", "as node.listen"),
        ];
        for (section, key, value, allowed) in wrong {
            let error = error(&format!("# a comment\n\n[{section}]\n{key} = {value}\n"));
            assert!(error.starts_with(&format!("g.toml, line 4: {section}.{key} is ")), "{error}");
            assert!(error.contains(allowed), "{error}");
        }
    }

    #[test]
    fn a_contradiction_to_a_default_is_told_with_the_line_that_is_there() {
        let error = error("[detection]\nperiod_ms = 100\n");
        assert!(error.starts_with("g.toml, line 2: gossip.interval_ms is 256"), "{error}");
    }

    #[test]
    fn a_value_of_a_wrong_type_is_told_without_names_of_rust() {
        for value in ["'eight'", "-1", "8.5", "99999999999999999999"] {
            let error = error(&format!("[gossip]\nwindow = {value}\n"));
            assert!(error.contains("line 2") && error.contains("a whole number is allowed"), "{error}");
            assert!(error.contains("window") && !error.contains("u32") && !error.contains("i128"), "{error}");
        }
        let error = error("[node]\nlisten = 'localhost:7600'\n");
        assert!(error.contains("line 2") && error.contains("IP address and a port"), "{error}");
    }

    #[test]
    fn a_control_socket_that_the_kernel_would_not_take_is_told() {
        let error = error(&format!("[control]\nsocket = '/{}'\n", "x".repeat(107)));
        assert!(error.starts_with("g.toml, line 2: control.socket is /xx"), "{error}");
        assert!(error.ends_with("at most 107 bytes is allowed"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_checkpoints_is_told() {
        let nodes = "nodes = [{ name = 'n0', address = '127.0.0.1:7700' }]\n";
        let begin = format!("[checkpoint]\nnode = 'n0'\nstore = '/dev/shm/c'\n{nodes}");
        Config::parse(&begin, Path::new("g.toml")).unwrap();
        let with = |more: &str| error(&format!("{begin}{more}"));
        let level = |text: &str| with(&format!("levels = [{text}]\n"));
        let xor = level("{ kind = 'xor', group = 1, interval_s = 9.0 }");
        assert!(
            xor.contains("g.toml, line 5: checkpoint.levels is xor with group 1: a group (k + m) larger than"),
            "{xor}"
        );
        let rs = level("{ kind = 'reed_solomon', group = 3, parities = 3, interval_s = 9.0 }");
        assert!(rs.contains("reed_solomon with group 3"), "{rs}");
        assert!(level("{ kind = 'shared', interval_s = 9.0 }").contains("checkpoint.shared is needed"));
        assert!(level("{ kind = 'local', interval_s = nan }").contains("positive number of seconds"));
        let twice = "{ kind = 'local', interval_s = 9.0 }";
        assert!(level(&format!("{twice}, {twice}")).contains("a list with a kind twice"));
        assert!(level("{ kind = 'raid', interval_s = 9.0 }").contains("line 5"));
        let other = error(&begin.replace("node = 'n0'", "node = 'n1'"));
        assert!(other.starts_with("g.toml, line 2: checkpoint.node is n1: one of the names"), "{other}");
        let two =
            "nodes = [{ name = 'n0', address = '127.0.0.1:7700' }, { name = 'n1', address = '127.0.0.1:7701' }]\n";
        let keyless = error(&begin.replace(nodes, two));
        assert!(keyless.contains("a key in node.key_file is needed"), "{keyless}");
        assert!(error(&begin.replace("'n0'\n", "'../n0'\n")).contains("is no name"));
        Config::parse(&format!("{begin}policy = 'model'\n"), Path::new("g.toml")).unwrap();
        assert!(with("policy = 'guess'\n").contains("line 5"));
        let rate = with("[checkpoint.failures]\nnode_mtbf_hours = 0.0\n");
        assert!(rate.contains("checkpoint.failures is such that the mean time to a node's failure is 0;"), "{rate}");
        assert!(with("[checkpoint.machine]\nshared = 0.0\n").contains("gigabytes a second above 0"));
        assert!(with("work_hours = nan\n").contains("a positive number of hours"));
        assert!(with("coordinator = 'there'\n").contains("`there` is no coordinator's address"));
        assert!(with("coordinator = '10.0.0.1:7800'\n").contains("the coordinator and the nodes prove to each other"));
        Config::parse(&format!("{begin}coordinator = '/run/c'\n"), Path::new("g.toml")).unwrap();
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let error = Config::load(Path::new("/nonexistent/g.toml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/g.toml"));
    }
}
