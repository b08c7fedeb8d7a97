//! Decisions as advice: computed by each node for itself from its board, written to the audit log,
//! and acted upon by a hook program if the administrator wants that.
//!
//! All nodes rank givers and takers by the same rule, so what one is advised to give the other is
//! advised to take, as far as their boards agree. A node counts as a taker only if it is well, its
//! report is fresh, nobody suspects it, and it has memory to spare.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use gossip_core::board::{Board, Micros};
use gossip_core::report::{CoreSet, Report};
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::audit::AuditLog;
use crate::config::AdviceSection;
use crate::hook::{self, Outcome};
use crate::metrics::{Failure, Metrics};

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

impl Advice {
    /// Whether the same is to be done for the same reason, whatever the figures.
    fn asks_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::GiveWork { to, why, .. }, Self::GiveWork { to: other_to, why: other_why, .. }) => {
                (to, why) == (other_to, other_why)
            }
            (Self::TakeWork { from, why, .. }, Self::TakeWork { from: other_from, why: other_why, .. }) => {
                (from, why) == (other_from, other_why)
            }
            (Self::ReserveCores { to, .. }, Self::ReserveCores { to: other_to, .. }) => to == other_to,
            (Self::Drain { .. }, Self::Drain { .. }) => self == other,
            _ => false,
        }
    }
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

/// What a line of the audit log is about.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// A decision, which is handed to the hook unless it is only written down.
    Advised { dry_run: bool },
    /// The end of the hook.
    HookEnded(Outcome),
}

/// A line of the audit log. The first of a decision is also the hook's input.
#[derive(Serialize)]
struct Record<'a> {
    unix_ms: u128,
    node: SocketAddr,
    #[serde(flatten)]
    event: Event,
    #[serde(flatten)]
    advice: &'a Advice,
}

impl Record<'_> {
    fn line(node: SocketAddr, event: Event, advice: &Advice) -> String {
        let unix_ms = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        serde_json::to_string(&Record { unix_ms, node, event, advice }).unwrap_or_default()
    }
}

/// Writes advice down and lets the hook act.
pub struct Adviser {
    config: AdviceSection,
    last: Vec<Advice>,
    log: Option<Rc<AuditLog>>,
    hook_failures: Counter,
}

impl Adviser {
    /// An adviser with nothing on its mind, which counts what fails.
    ///
    /// # Errors
    /// If the system gives no thread for the audit log.
    pub fn new(config: AdviceSection, metrics: &Metrics) -> io::Result<Self> {
        let open = |path| AuditLog::open(path, metrics.failures(Failure::AuditLog)).map(Rc::new);
        let log = config.audit_log.clone().map(open).transpose()?;
        Ok(Self { config, last: Vec::new(), log, hook_failures: metrics.failures(Failure::Hook) })
    }

    /// The advice that holds now.
    pub fn current(&self) -> &[Advice] {
        &self.last
    }

    /// Takes new advice. What differs from the last in more than figures is logged and handed to the hook.
    pub fn take(&mut self, me: SocketAddr, advice: Vec<Advice>) {
        let last = std::mem::replace(&mut self.last, advice);
        for new in self.last.iter().filter(|new| !last.iter().any(|old| old.asks_the_same(new))) {
            let dry_run = self.config.dry_run;
            info!(dry_run, "advice: {new}");
            let line = Record::line(me, Event::Advised { dry_run }, new);
            if let Some(log) = &self.log {
                log.append(line.clone());
            }
            if let Some(hook) = self.config.hook.as_ref().filter(|_| !dry_run) {
                self.act(hook.clone(), me, new.clone(), line);
            }
        }
    }

    /// Starts the hook; what comes of it is logged when it ends.
    fn act(&self, program: PathBuf, me: SocketAddr, advice: Advice, line: String) {
        let limit = Duration::from_secs(self.config.hook_timeout_s);
        let (log, failures) = (self.log.clone(), self.hook_failures.clone());
        tokio::task::spawn_local(async move {
            let outcome = hook::run(&program, &line, limit).await;
            if outcome == Outcome::Succeeded {
                info!(hook = %program.display(), "{outcome}");
            } else {
                failures.inc();
                warn!(hook = %program.display(), "{outcome}");
            }
            if let Some(log) = log {
                log.append(Record::line(me, Event::HookEnded(outcome), &advice));
            }
        });
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

    fn give(to: u16, demand: f64) -> Advice {
        let (to, why) = (addr(to), Why::Load);
        Advice::GiveWork { to, why, demand, mean: 20.0, their_demand: 1.0, their_memory_mib: 1_000 }
    }

    /// The lines of the audit log after an adviser with `config` took each of these.
    fn audited(config: AdviceSection, taken: Vec<Vec<Advice>>) -> (Vec<serde_json::Value>, Metrics) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let metrics = Metrics::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let config = AdviceSection { audit_log: Some(path.clone()), ..config };
        let mut adviser = local.block_on(&runtime, async { Adviser::new(config, &metrics).unwrap() });
        for advice in taken {
            local.block_on(&runtime, async { adviser.take(addr(1), advice) });
            // Until the hook has ended.
            runtime.block_on(local.run_until(async {
                while Rc::strong_count(adviser.log.as_ref().unwrap()) > 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }));
        }
        drop(adviser);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), metrics)
    }

    #[test]
    fn a_decision_is_written_when_it_changes_and_not_when_its_figures_do() {
        let taken = vec![vec![give(2, 90.0)], vec![give(2, 80.0)], vec![give(3, 80.0)], vec![], vec![give(3, 80.0)]];
        let (lines, metrics) = audited(AdviceSection::default(), taken);
        let to: Vec<&str> = lines.iter().map(|line| line["to"].as_str().unwrap()).collect();
        assert_eq!(to, ["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:3"]);
        assert!(lines.iter().all(|line| line["event"] == "advised" && line["dry_run"] == true), "{lines:?}");
        assert_eq!(metrics.counters().audit_log_failures, 0);
        let drain = |hot, memory_low| Advice::Drain { hot, memory_low, sensors_failed: false };
        let (lines, _) = audited(AdviceSection::default(), vec![vec![drain(true, false)], vec![drain(true, true)]]);
        assert_eq!(lines.len(), 2, "another reason is another decision: {lines:?}");
    }

    #[test]
    fn what_came_of_the_hook_is_written_once_it_is_known_and_failures_are_counted() {
        for (hook, outcome, failures) in
            [("/bin/true", "succeeded", 0), ("/bin/false", "failed", 1), ("/nonexistent/hook", "not_run", 1)]
        {
            let config = AdviceSection { dry_run: false, hook: Some(hook.into()), ..AdviceSection::default() };
            let (lines, metrics) = audited(config, vec![vec![give(2, 90.0)]]);
            let [advised, ended] = &lines[..] else { panic!("{lines:?}") };
            assert_eq!((&advised["event"], &advised["dry_run"]), (&"advised".into(), &false.into()));
            assert_eq!((&ended["event"], &ended["outcome"]), (&"hook_ended".into(), &outcome.into()), "{hook}");
            assert_eq!(ended["to"], "127.0.0.1:2");
            assert_eq!(metrics.counters().hook_failures, failures, "{hook}");
        }
    }
}
