//! Decisions as advice: computed by each node for itself from its board, written to the audit log,
//! and acted upon by a hook program if the administrator wants that.
//!
//! All nodes rank givers and takers by the same rule, so what one is advised to give the other is
//! advised to take, as far as their boards agree. A node counts as a taker only if it is well, its
//! report is fresh, nobody suspects it, and it has memory to spare.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use gossip_core::board::{Board, Micros};
use gossip_core::report::{CoreSet, Report};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};

use crate::config::AdviceSection;

/// Share of memory that a node must have available to be given work.
const MEMORY_TO_SPARE: f64 = 0.10;

/// Why a node should give work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its programs want more of its cores than those of other nodes do.
    Load,
    /// It runs out of memory.
    Memory,
}

/// What should be done. Demand is in percent of a node's cores, see [`Report::demand`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Advice {
    /// This node should give work to `to`.
    GiveWork {
        /// Who takes it.
        to: SocketAddr,
        /// What is the matter here.
        why: Why,
        /// Demand here.
        demand: f64,
        /// Mean demand over all nodes.
        mean: f64,
        /// Demand there.
        their_demand: f64,
        /// Memory available there in MiB.
        their_memory_mib: u64,
    },
    /// This node should take work from `from`.
    TakeWork {
        /// Who gives it.
        from: SocketAddr,
        /// What is the matter there.
        why: Why,
        /// Demand here.
        demand: f64,
        /// Demand there.
        their_demand: f64,
    },
    /// All compute cores here are taken while `to` has free ones: start new ranks there.
    ReserveCores {
        /// The node with most free compute cores.
        to: SocketAddr,
        /// How many it has free.
        free: u32,
        /// Which, as Linux writes lists of CPUs.
        cores: String,
    },
    /// This node is unwell and should get no new work.
    Drain {
        /// Too hot.
        hot: bool,
        /// Less than 5 % of memory available.
        memory_low: bool,
        /// Something that should be readable is not.
        sensors_failed: bool,
    },
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GiveWork { to, why: Why::Load, demand, mean, their_demand, .. } => write!(
                f,
                "give work to {to}: programs want {demand:.0} % of the cores here, {their_demand:.0} % \
                 there, {mean:.0} % on average"
            ),
            Self::GiveWork { to, their_memory_mib, .. } => {
                write!(f, "give work to {to}: memory runs out here, {their_memory_mib} MiB are available there")
            }
            Self::TakeWork { from, why: Why::Load, demand, their_demand } => write!(
                f,
                "take work from {from}: programs want {their_demand:.0} % of the cores there, \
                 {demand:.0} % here"
            ),
            Self::TakeWork { from, .. } => {
                write!(f, "take work from {from}: memory runs out there")
            }
            Self::ReserveCores { to, free, cores } => {
                write!(f, "start new ranks on {to}: no compute core is free here, {free} there ({cores})")
            }
            Self::Drain { hot, memory_low, sensors_failed } => {
                let reasons =
                    [(hot, "too hot"), (memory_low, "memory runs out"), (sensors_failed, "a sensor cannot be read")];
                let reasons: Vec<&str> =
                    reasons.iter().filter(|(holds, _)| **holds).map(|&(_, reason)| reason).collect();
                write!(f, "give no new work to this node: {}", reasons.join(", "))
            }
        }
    }
}

/// What this node should do, judging by its board. Reports older than `stale` do not count, and
/// neither do nodes that are not `trusted`.
pub fn decide(
    board: &Board<SocketAddr, Report>,
    me: SocketAddr,
    threshold: f64,
    stale: Micros,
    now: Micros,
    trusted: impl Fn(SocketAddr) -> bool,
) -> Vec<Advice> {
    let Some(own) = board.get(&me).map(|entry| &entry.report) else {
        return Vec::new();
    };
    let mut advice = Vec::new();
    if own.health.is_bad() {
        let health = own.health;
        advice.push(Advice::Drain {
            hot: health.hot,
            memory_low: health.memory_low,
            sensors_failed: health.sensors_failed,
        });
    }
    let known: Vec<(SocketAddr, &Report)> = board
        .entries()
        .filter(|(_, entry)| now.saturating_sub(entry.made_at) <= stale)
        .map(|(&node, entry)| (node, &entry.report))
        .filter(|&(node, _)| node == me || trusted(node))
        .collect();
    advice.extend(share_work(&known, me, threshold));
    let most_cores = known
        .iter()
        .filter(|(node, report)| *node != me && can_take(report))
        .filter_map(|(node, report)| Some((*node, report.compute_free.as_ref()?)))
        .max_by_key(|(_, free)| free.len());
    if own.compute_free.as_ref().is_some_and(CoreSet::is_empty)
        && let Some((to, free)) = most_cores.filter(|(_, free)| !free.is_empty())
    {
        advice.push(Advice::ReserveCores { to, free: free.len(), cores: free.to_string() });
    }
    advice
}

fn can_take(report: &Report) -> bool {
    !report.health.is_bad() && report.memory_share() >= MEMORY_TO_SPARE
}

/// The neediest giver is paired with the idlest taker, the next with the next, and so on, so that not
/// all give to one.
fn share_work(known: &[(SocketAddr, &Report)], me: SocketAddr, threshold: f64) -> Option<Advice> {
    let mean = known.iter().map(|(_, r)| r.demand()).sum::<f64>() / known.len().max(1) as f64;
    let why = |report: &Report| {
        if report.health.memory_low {
            Some(Why::Memory)
        } else {
            (report.demand() > mean + threshold).then_some(Why::Load)
        }
    };
    let mut givers: Vec<_> = known.iter().filter_map(|&(node, report)| Some((node, report, why(report)?))).collect();
    givers.sort_by(|a, b| b.1.demand().total_cmp(&a.1.demand()));
    let mut takers: Vec<_> = known
        .iter()
        .filter(|(_, report)| why(report).is_none() && can_take(report))
        .filter(|(_, report)| report.demand() <= mean)
        .collect();
    takers.sort_by(|a, b| a.1.demand().total_cmp(&b.1.demand()));
    for ((giver, theirs, why), (taker, report)) in givers.into_iter().zip(takers) {
        if giver == me {
            return Some(Advice::GiveWork {
                to: *taker,
                why,
                demand: theirs.demand(),
                mean,
                their_demand: report.demand(),
                their_memory_mib: report.memory_free / 1024,
            });
        }
        if *taker == me {
            return Some(Advice::TakeWork { from: giver, why, demand: report.demand(), their_demand: theirs.demand() });
        }
    }
    None
}

/// A line of the audit log.
#[derive(Serialize)]
struct Record<'a> {
    unix_ms: u128,
    node: SocketAddr,
    acted: bool,
    #[serde(flatten)]
    advice: &'a Advice,
}

/// Writes advice down and lets the hook act.
pub struct Adviser {
    config: AdviceSection,
    last: Vec<Advice>,
    log_failed: bool,
}

impl Adviser {
    /// An adviser with nothing on its mind.
    pub fn new(config: AdviceSection) -> Self {
        Self { config, last: Vec::new(), log_failed: false }
    }

    /// The advice that holds now.
    pub fn current(&self) -> &[Advice] {
        &self.last
    }

    /// Takes new advice; what is new is logged and handed to the hook. Returns the number of lines
    /// that could not be written.
    pub fn take(&mut self, me: SocketAddr, advice: Vec<Advice>) -> u64 {
        let same = |a: &Advice, b: &Advice| std::mem::discriminant(a) == std::mem::discriminant(b);
        let mut failures = 0;
        let last = std::mem::take(&mut self.last);
        for new in advice.iter().filter(|new| !last.iter().any(|old| same(old, new))) {
            let acted = !self.config.dry_run && self.config.hook.is_some();
            info!(acted, "advice: {new}");
            let unix_ms = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
            let record = Record { unix_ms, node: me, acted, advice: new };
            let line = serde_json::to_string(&record).unwrap_or_default();
            failures += u64::from(!self.log(&line));
            if let (true, Some(hook)) = (acted, &self.config.hook) {
                let limit = Duration::from_secs(self.config.hook_timeout_s);
                tokio::task::spawn_local(run_hook(hook.clone(), line, limit));
            }
        }
        self.last = advice;
        failures
    }

    /// Appends a line; complains once when that begins to fail.
    fn log(&mut self, line: &str) -> bool {
        let Some(path) = &self.config.audit_log else {
            return true;
        };
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = &written
            && !self.log_failed
        {
            warn!(path = %path.display(), %error, "the audit log cannot be written");
        }
        self.log_failed = written.is_err();
        written.is_ok()
    }
}

async fn run_hook(hook: PathBuf, line: String, limit: Duration) {
    let name = hook.display().to_string();
    let run = async {
        let mut child = tokio::process::Command::new(&hook)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A hook that does not read is its own business.
            let _ = stdin.write_all(line.as_bytes()).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(limit, run).await {
        Err(_) => warn!(hook = name, "the hook took too long and was ended"),
        Ok(Err(error)) => warn!(hook = name, %error, "the hook could not be run"),
        Ok(Ok(status)) if !status.success() => warn!(hook = name, %status, "the hook failed"),
        Ok(Ok(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gossip_core::board::Notice;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn board(own: Report, others: Vec<Report>) -> Board<SocketAddr, Report> {
        let mut board = Board::new(addr(1), 1, 1_000);
        board.refresh(0, own, false);
        for (i, report) in others.into_iter().enumerate() {
            let node = addr(2 + i as u16);
            let (incarnation, version, age, urgent) = (1, 1, 0, false);
            board.merge(0, Notice { node, incarnation, version, age, urgent, report }, 0);
        }
        board
    }

    fn loaded(load: u8) -> Report {
        Report { core_load: vec![load], ..Report::default() }
    }

    fn at(board: &Board<SocketAddr, Report>, now: Micros) -> Vec<Advice> {
        decide(board, addr(1), 25.0, 1_000, now, |_| true)
    }

    fn gives_to(advice: &[Advice]) -> Option<SocketAddr> {
        advice.iter().find_map(|advice| match advice {
            Advice::GiveWork { to, .. } => Some(*to),
            _ => None,
        })
    }

    #[test]
    fn a_loaded_node_gives_to_the_idlest_which_takes() {
        let (busy, some, idle) = (loaded(95), loaded(30), loaded(10));
        let given = at(&board(busy.clone(), vec![some.clone(), idle.clone()]), 0);
        assert_eq!(gives_to(&given), Some(addr(3)));
        let taken = at(&board(idle, vec![busy, some]), 0);
        let [Advice::TakeWork { from, why, .. }] = taken[..] else { panic!("{taken:?}") };
        assert_eq!((from, why), (addr(2), Why::Load));
    }

    #[test]
    fn load_is_per_core() {
        // Eight runnable threads are much for two cores and little for 64.
        let threads = |cores| Report { core_load: vec![50; cores], load_average: 800, ..Report::default() };
        let (small, large) = (threads(2), threads(64));
        let advice = at(&board(small.clone(), vec![large.clone()]), 0);
        assert_eq!(gives_to(&advice), Some(addr(2)));
        assert_eq!(gives_to(&at(&board(large, vec![small]), 0)), None);
    }

    #[test]
    fn two_loaded_nodes_give_to_two_idle_ones() {
        let others = vec![loaded(90), loaded(5), loaded(10)];
        assert_eq!(gives_to(&at(&board(loaded(95), others), 0)), Some(addr(3)));
        let others = vec![loaded(95), loaded(5), loaded(10)];
        assert_eq!(gives_to(&at(&board(loaded(90), others), 0)), Some(addr(4)));
    }

    #[test]
    fn nobody_gives_to_a_node_that_is_unwell_short_of_memory_or_suspected() {
        let mut hot = loaded(0);
        hot.health.hot = true;
        let full = Report { memory_total: 1_000, memory_free: 90, ..loaded(1) };
        let board = board(loaded(95), vec![hot, full, loaded(2), loaded(20)]);
        let advice = decide(&board, addr(1), 25.0, 1_000, 0, |node| node != addr(4));
        assert_eq!(gives_to(&advice), Some(addr(5)));
    }

    #[test]
    fn a_node_without_memory_gives_work_though_it_is_idle() {
        let mut starved = loaded(0);
        starved.health.memory_low = true;
        let advice = at(&board(starved, vec![loaded(0)]), 0);
        let [Advice::Drain { .. }, Advice::GiveWork { why, to, .. }] = advice[..] else { panic!("{advice:?}") };
        assert_eq!((why, to), (Why::Memory, addr(2)));
    }

    #[test]
    fn stale_reports_do_not_count() {
        let board = board(loaded(95), vec![loaded(10)]);
        assert_eq!(at(&board, 5_000), []);
    }

    #[test]
    fn a_full_node_points_to_free_compute_cores() {
        let cores = |free: &[u16]| Report { compute_free: Some(free.iter().copied().collect()), ..Report::default() };
        let others = vec![cores(&[1]), cores(&[2, 3, 5]), Report::default()];
        let advice = at(&board(cores(&[]), others), 0);
        let expected = Advice::ReserveCores { to: addr(3), free: 3, cores: "2-3,5".into() };
        assert_eq!(advice, [expected]);
    }

    #[test]
    fn an_unwritable_audit_log_is_counted() {
        let config = AdviceSection { audit_log: Some("/dev/full".into()), ..AdviceSection::default() };
        let mut adviser = Adviser::new(config);
        let advice = vec![Advice::ReserveCores { to: addr(2), free: 1, cores: "1".into() }];
        assert_eq!(adviser.take(addr(1), advice.clone()), 1);
        assert_eq!(adviser.take(addr(1), advice), 0, "unchanged advice is not written again");
    }
}
