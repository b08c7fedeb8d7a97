//! The configuration file: TOML, every key optional, unknown keys refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use gossip_core::detector::Tuning;
use gossip_core::node::Settings;
use serde::Deserialize;

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
    #[error("{}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        error: Box<toml::de::Error>,
    },
    /// A value that is not allowed.
    #[error("{}: {key} is {value}: {allowed}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its section.
        key: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
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
}

impl Default for NodeSection {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7600));
        Self { listen, advertise: None, seeds: Vec::new(), key_file: None }
    }
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
}

impl Default for DetectionSection {
    fn default() -> Self {
        let Tuning { period, shortest, longest, confirmations, phi, .. } = Tuning::default();
        Self { period_ms: period / 1_000, shortest, longest, confirmations, phi }
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
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let DetectionSection { period_ms, shortest, longest, phi, .. } = self.detection;
        let GossipSection { interval_ms, window, colony, payload, .. } = self.gossip;
        let advertised = self.advertised();
        let lonely = self.node.seeds.is_empty() && self.node.listen.ip().is_loopback();
        let rules = [
            (
                (10..=60_000).contains(&interval_ms),
                "gossip.interval_ms",
                interval_ms.to_string(),
                "10 to 60000 are allowed",
            ),
            ((1..=1_000).contains(&window), "gossip.window", window.to_string(), "1 to 1000 are allowed"),
            ((2..=65_536).contains(&colony), "gossip.colony", colony.to_string(), "2 to 65536 are allowed"),
            ((512..=8_000).contains(&payload), "gossip.payload", payload.to_string(), "512 to 8000 bytes are allowed"),
            (
                (50..=600_000).contains(&period_ms),
                "detection.period_ms",
                period_ms.to_string(),
                "50 to 600000 are allowed",
            ),
            (
                interval_ms <= period_ms,
                "gossip.interval_ms",
                interval_ms.to_string(),
                "it must not be above detection.period_ms, as pushes are the probes",
            ),
            (
                (1.0..=1_000.0).contains(&shortest),
                "detection.shortest",
                shortest.to_string(),
                "1 to 1000 periods are allowed",
            ),
            (
                (shortest..=1_000.0).contains(&longest),
                "detection.longest",
                longest.to_string(),
                "detection.shortest to 1000 periods are allowed",
            ),
            ((0.1..=100.0).contains(&phi), "detection.phi", phi.to_string(), "0.1 to 100 are allowed"),
            (
                !advertised.ip().is_unspecified() && advertised.port() != 0,
                "node.advertise",
                advertised.to_string(),
                "with a wildcard address or port in node.listen an address that others can \
                 reach is needed here",
            ),
            (
                self.node.key_file.is_some() || lonely,
                "node.key_file",
                "missing".into(),
                "a key is needed unless the node listens on loopback and has no seeds",
            ),
            (
                self.advice.dry_run || self.advice.hook.is_some(),
                "advice.dry_run",
                "false".into(),
                "to act a program in advice.hook is needed",
            ),
            (
                self.sensors.interval_ms >= 100,
                "sensors.interval_ms",
                self.sensors.interval_ms.to_string(),
                "at least 100 are allowed",
            ),
            (
                self.advice.interval_s >= 1,
                "advice.interval_s",
                self.advice.interval_s.to_string(),
                "at least 1 is allowed",
            ),
        ];
        match rules.into_iter().find(|(fine, ..)| !fine) {
            None => Ok(()),
            Some((_, key, value, allowed)) => Err(ConfigError::Value { path: path.into(), key, value, allowed }),
        }
    }

    /// The address at which others reach this node.
    pub fn advertised(&self) -> SocketAddr {
        self.node.advertise.unwrap_or(self.node.listen)
    }

    /// What the core needs to know.
    pub fn settings(&self) -> Settings {
        let GossipSection { interval_ms, window, colony, masters, payload } = self.gossip;
        let DetectionSection { period_ms, shortest, longest, confirmations, phi } = self.detection;
        let period = period_ms * 1_000;
        let detection = Tuning { period, shortest, longest, confirmations, phi, answer: period / 4 };
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
    fn a_missing_file_is_an_error() {
        let error = Config::load(Path::new("/nonexistent/g.toml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/g.toml"));
    }
}
