//! Decisions as advice: computed by each node for itself from its board, written to the audit log,
//! and acted upon by a hook program if the administrator wants that.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use gossip_core::board::{Board, Micros};
use gossip_core::report::Report;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};

use crate::config::AdviceSection;

/// What should be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Advice {
    /// This node is loaded above the others and should give work to `to`.
    GiveWork {
        /// The least loaded node.
        to: SocketAddr,
        /// Mean load of this node in percent.
        load: f64,
        /// Mean over all nodes.
        mean: f64,
    },
    /// All compute cores here are taken while `to` has free ones: start new ranks there.
    ReserveCores {
        /// The node with most free compute cores.
        to: SocketAddr,
        /// How many it has.
        free: u16,
    },
    /// This node is unwell and should get no new work.
    Drain {
        /// Hot, low on memory, or blind.
        hot: bool,
        /// Less than 5 % of memory available.
        memory_low: bool,
        /// Something that should be readable is not.
        sensors_failed: bool,
    },
}

/// What this node should do, judging by its board. Reports older than `stale` do not count.
pub fn decide(
    board: &Board<SocketAddr, Report>,
    me: SocketAddr,
    threshold: f64,
    stale: Micros,
    now: Micros,
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
    let fresh: Vec<(SocketAddr, &Report)> = board
        .entries()
        .filter(|(_, entry)| now.saturating_sub(entry.made_at) <= stale)
        .map(|(&node, entry)| (node, &entry.report))
        .collect();
    let mean = fresh.iter().map(|(_, r)| r.mean_load()).sum::<f64>() / fresh.len().max(1) as f64;
    let healthy = || {
        fresh
            .iter()
            .filter(|(node, r)| *node != me && !r.health.is_bad())
    };
    let idlest = healthy().min_by(|a, b| a.1.mean_load().total_cmp(&b.1.mean_load()));
    if let Some(&(to, receiver)) = idlest
        && own.mean_load() > mean + threshold
        && receiver.mean_load() < mean
    {
        advice.push(Advice::GiveWork {
            to,
            load: own.mean_load(),
            mean,
        });
    }
    if own.compute_free == Some(0)
        && let Some(&(to, receiver)) = healthy().max_by_key(|(_, r)| r.compute_free)
        && let Some(free) = receiver.compute_free.filter(|&free| free > 0)
    {
        advice.push(Advice::ReserveCores { to, free });
    }
    advice
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
        Self {
            config,
            last: Vec::new(),
            log_failed: false,
        }
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
        for new in advice
            .iter()
            .filter(|new| !last.iter().any(|old| same(old, new)))
        {
            let acted = !self.config.dry_run && self.config.hook.is_some();
            info!(advice = ?new, acted, "advice");
            let unix_ms = std::time::UNIX_EPOCH
                .elapsed()
                .unwrap_or_default()
                .as_millis();
            let record = Record {
                unix_ms,
                node: me,
                acted,
                advice: new,
            };
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
            board.merge(
                0,
                Notice {
                    node,
                    incarnation,
                    version,
                    age,
                    urgent,
                    report,
                },
                0,
            );
        }
        board
    }

    fn loaded(load: u8) -> Report {
        Report {
            core_load: vec![load],
            ..Report::default()
        }
    }

    #[test]
    fn a_loaded_node_gives_to_the_idlest() {
        let board = board(loaded(95), vec![loaded(30), loaded(10)]);
        let advice = decide(&board, addr(1), 25.0, 1_000, 0);
        assert_eq!(
            advice,
            [Advice::GiveWork {
                to: addr(3),
                load: 95.0,
                mean: 45.0
            }]
        );
        assert_eq!(decide(&board, addr(2), 25.0, 1_000, 0), []);
    }

    #[test]
    fn stale_reports_do_not_count() {
        let board = board(loaded(95), vec![loaded(10)]);
        assert_eq!(decide(&board, addr(1), 25.0, 1_000, 5_000), []);
    }

    #[test]
    fn a_full_node_points_to_free_compute_cores() {
        let cores = |free| Report {
            compute_free: Some(free),
            ..Report::default()
        };
        let board = board(cores(0), vec![cores(1), cores(3), Report::default()]);
        let advice = decide(&board, addr(1), 25.0, 1_000, 0);
        assert_eq!(
            advice,
            [Advice::ReserveCores {
                to: addr(3),
                free: 3
            }]
        );
    }

    #[test]
    fn an_unwritable_audit_log_is_counted() {
        let config = AdviceSection {
            audit_log: Some("/dev/full".into()),
            ..AdviceSection::default()
        };
        let mut adviser = Adviser::new(config);
        let advice = vec![Advice::ReserveCores {
            to: addr(2),
            free: 1,
        }];
        assert_eq!(adviser.take(addr(1), advice.clone()), 1);
        assert_eq!(
            adviser.take(addr(1), advice),
            0,
            "unchanged advice is not written again"
        );
    }
}
