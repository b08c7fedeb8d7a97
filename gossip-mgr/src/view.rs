//! What the daemon tells about itself: the form of all `--json` output, and tables of it.

use std::net::SocketAddr;

use comfy_table::{Table, presets::NOTHING};
use gossip_core::report::Report;
use serde::{Deserialize, Serialize};

use crate::advice::Advice;
use crate::metrics::Counters;

/// The answer to `status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: SocketAddr,
    /// Its life.
    pub incarnation: u64,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Lifeguard's local health, 0 (good) to 8.
    pub local_health: u32,
    /// Mean age of the board's entries of others, in seconds.
    pub mean_age_s: Option<f64>,
    /// What the age model expects for this many nodes, in seconds.
    pub expected_age_s: Option<f64>,
    /// Seeds of the configuration while none of them, and no other node, is known.
    pub unanswered_seeds: Vec<SocketAddr>,
    /// Nodes in this node's colony, itself included.
    pub colony: usize,
    /// Nodes that hear of all colonies; none while there is only one.
    pub masters: Vec<SocketAddr>,
    /// Advice that holds now.
    pub advice: Vec<Advice>,
    /// Whether advice is only written down.
    pub dry_run: bool,
    /// Packet counters.
    pub counters: Counters,
    /// All nodes, this one included.
    pub nodes: Vec<NodeStatus>,
}

/// A node as seen from another.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Where it is reached.
    pub node: SocketAddr,
    /// Its life.
    pub incarnation: u64,
    /// alive, suspect, or dead.
    pub state: String,
    /// Age of its report in seconds; none if there is no report.
    pub age_s: Option<f64>,
    /// Its report.
    pub report: Option<Report>,
}

/// The answer to `explain`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The node.
    pub node: SocketAddr,
    /// alive, suspect, or dead.
    pub state: String,
    /// Seconds since the newest evidence of life.
    pub silence_s: f64,
    /// Mean gap between pieces of evidence in seconds.
    pub mean_gap_s: Option<f64>,
    /// -log10 of the probability of such a silence.
    pub phi: f64,
    /// Nodes that suspect it too.
    pub confirmations: usize,
    /// Seconds until it is declared dead if nothing is heard.
    pub dies_in_s: Option<f64>,
    /// Pushes and pings that it answered.
    pub answered: u64,
    /// Those that it did not answer in time.
    pub missed: u64,
}

impl Explained {
    /// The explanation in sentences.
    pub fn sentences(&self) -> String {
        let mut text =
            format!("{} is {}.\nThe newest evidence of life is {:.2} s old", self.node, self.state, self.silence_s);
        if let Some(gap) = self.mean_gap_s {
            text += &format!("; usually it comes every {gap:.2} s (phi {:.2})", self.phi);
        }
        text +=
            &format!(".\nIt answered {} of {} pushes and pings in time.\n", self.answered, self.answered + self.missed);
        if let Some(left) = self.dies_in_s {
            text += &format!(
                "{} other nodes suspect it too. It will be declared dead in {left:.1} s unless it \
                 is heard of.\n",
                self.confirmations
            );
        }
        text
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    format!("{}\n", table.trim_fmt())
}

impl Status {
    /// Summary and board.
    pub fn summary(&self) -> String {
        let count = |state: &str| self.nodes.iter().filter(|n| n.state == state).count();
        let mut text = format!(
            "{} up {:.0} s: {} alive, {} suspect, {} dead; local health {}\n",
            self.node,
            self.uptime_s,
            count("alive"),
            count("suspect"),
            count("dead"),
            self.local_health
        );
        if let (Some(age), Some(expected)) = (self.mean_age_s, self.expected_age_s) {
            text += &format!("mean age of the board {age:.2} s, expected {expected:.2} s\n");
        }
        if !self.unanswered_seeds.is_empty() {
            let seeds: Vec<String> = self.unanswered_seeds.iter().map(ToString::to_string).collect();
            text += &format!(
                "alone: no seed has answered ({}); is gossip-mgr running there, with the same key?\n",
                seeds.join(", ")
            );
        }
        if !self.masters.is_empty() {
            let masters: Vec<String> = self.masters.iter().map(ToString::to_string).collect();
            text += &format!(
                "colony of {} nodes; the boards of all colonies are with {}\n",
                self.colony,
                masters.join(", ")
            );
        }
        let Counters { malformed, not_authentic, replayed, .. } = self.counters;
        if malformed + not_authentic + replayed > 0 {
            text += &format!(
                "dropped datagrams: {not_authentic} not authentic (another key?), {replayed} replayed, \
                 {malformed} malformed\n"
            );
        }
        let Counters { send_failures, audit_log_failures, hook_failures, sensor_failures, .. } = self.counters;
        if send_failures + audit_log_failures + hook_failures + sensor_failures > 0 {
            text += &format!(
                "failed: {send_failures} datagrams to send, {audit_log_failures} lines of the audit log, \
                 {hook_failures} hooks, {sensor_failures} measurements; the log tells why\n"
            );
        }
        for advice in &self.advice {
            let mode = if self.dry_run { " (dry run)" } else { "" };
            text += &format!("advice{mode}: {advice}\n");
        }
        text + "\n" + &self.board()
    }

    /// The members.
    pub fn members(&self) -> String {
        let rows = self.nodes.iter().map(|n| {
            vec![
                n.node.to_string(),
                n.report.as_ref().map_or_else(|| "-".into(), |r| r.name.clone()),
                n.state.clone(),
                n.incarnation.to_string(),
            ]
        });
        table(&["NODE", "NAME", "STATE", "INCARNATION"], rows)
    }

    /// The board.
    pub fn board(&self) -> String {
        let rows = self.nodes.iter().map(|n| {
            let mut row = vec![n.node.to_string(), n.state.clone()];
            row.push(or_dash(n.age_s.map(|age| format!("{age:.2}"))));
            match &n.report {
                None => row.extend(vec!["-".into(); 5]),
                Some(r) => row.extend([
                    format!("{:.0}", r.mean_load()),
                    format!("{:.2}", f64::from(r.load_average) / 100.0),
                    match (&r.compute_free, r.compute_used) {
                        (Some(free), Some(used)) => {
                            format!("{}/{}", free.len(), free.len() + u32::from(used))
                        }
                        _ => "-".into(),
                    },
                    format!("{}/{}", r.memory_free / 1024, r.memory_total / 1024),
                    or_dash(r.temperature.map(|t| format!("{:.1}", f64::from(t) / 10.0))),
                ]),
            }
            row
        });
        let header = ["NODE", "STATE", "AGE s", "LOAD %", "LOADAVG", "CORES FREE", "MEM FREE MiB", "TEMP C"];
        table(&header, rows)
    }
}
