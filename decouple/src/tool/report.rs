//! The state of the cores as people and programs read it.

use crate::state::{ComputeCore, Counters, Machine, Sysfs};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use nix::unistd::{Uid, User};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The JSON form; `docs/decouple.md` describes it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub service_cores: Vec<u32>,
    pub compute_cores: Vec<u32>,
    pub cores: Vec<CoreReport>,
}

#[derive(Debug, Serialize)]
pub struct CoreReport {
    pub core: u32,
    /// `service` or `compute`.
    pub role: &'static str,
    #[serde(flatten)]
    pub compute: Option<ComputeReport>,
}

#[derive(Debug, Serialize)]
pub struct ComputeReport {
    pub state: &'static str,
    pub pid: Option<i32>,
    pub tid: Option<i32>,
    pub comm: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub reserved_by: Option<i32>,
    /// Seconds since the thread came.
    pub seconds: Option<f64>,
    /// `None` for threads of other users: nothing of it is in the JSON form then.
    #[serde(flatten)]
    pub counts: Option<CountsReport>,
}

#[derive(Debug, Serialize)]
pub struct CountsReport {
    pub syscalls: u64,
    pub faults: u64,
    pub traps: u64,
    pub stops: u64,
    /// Microseconds from traps to answers, all together.
    pub answer_us: f64,
    pub syscalls_by_number: Vec<SyscallReport>,
}

#[derive(Debug, Serialize)]
pub struct SyscallReport {
    pub number: u32,
    pub name: String,
    pub count: u64,
    pub us: f64,
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// CLOCK_MONOTONIC in nanoseconds, which `since_ns` counts in.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists and `time` is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn syscall_name(number: u32) -> String {
    match syscalls::Sysno::new(number as usize) {
        Some(call) => call.name().to_string(),
        None => format!("syscall_{number}"),
    }
}

fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

impl Report {
    /// `now_ns`: see [`now_ns`].
    pub fn new(machine: &Machine, now_ns: u64) -> Self {
        let service = machine.service.as_slice().iter().map(|core| (*core, None));
        let compute = machine.compute.iter().map(|core| (core.core, Some(core)));
        let cores: BTreeMap<u32, Option<&ComputeCore>> = service.chain(compute).collect();
        Report {
            service_cores: machine.service.as_slice().to_vec(),
            compute_cores: machine.compute_list().as_slice().to_vec(),
            cores: cores
                .into_iter()
                .map(|(number, core)| CoreReport {
                    core: number,
                    role: if core.is_some() { "compute" } else { "service" },
                    compute: core.map(|core| ComputeReport::new(core, now_ns)),
                })
                .collect(),
        }
    }

    /// One JSON text without line breaks.
    pub fn json(&self) -> String {
        // Only numbers, strings and lists: nothing here can fail to be written.
        serde_json::to_string(self).expect("a report is plain data")
    }
}

impl ComputeReport {
    fn new(core: &ComputeCore, now_ns: u64) -> Self {
        ComputeReport {
            state: core.state.name(),
            pid: core.pid,
            tid: core.tid,
            comm: core.pid.map(|_| core.comm.clone()),
            uid: core.uid,
            user: core.uid.map(user_name),
            reserved_by: core.reserved_by,
            seconds: core.since_ns.map(|since| now_ns.saturating_sub(since) as f64 / 1e9),
            counts: core.counters.as_ref().map(CountsReport::new),
        }
    }
}

impl CountsReport {
    fn new(counters: &Counters) -> Self {
        CountsReport {
            syscalls: counters.syscalls,
            faults: counters.faults,
            traps: counters.traps,
            stops: counters.stops,
            answer_us: microseconds(counters.answer_ns),
            syscalls_by_number: counters
                .by_number
                .iter()
                .map(|row| SyscallReport {
                    number: row.number,
                    name: syscall_name(row.number),
                    count: row.count,
                    us: microseconds(row.nanoseconds),
                })
                .collect(),
        }
    }
}

/// A table in the house style: no frame, numbers to the right.
pub fn table(header: &[&str], numeric: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for column in numeric {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints a table without the spaces that fill up its last column.
pub fn lines(table: &Table) -> String {
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_else(|| "-".to_string())
}

/// How long, in the largest two units.
pub fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86400, whole / 3600 % 24),
    }
}

/// The counts of an earlier moment, to print rates instead of sums.
pub struct Before<'a> {
    pub report: &'a Report,
    pub elapsed: Duration,
}

fn earlier<'a>(before: &'a Before, core: u32, now: &ComputeReport) -> Option<&'a CountsReport> {
    let row = before.report.cores.iter().find(|row| row.core == core)?.compute.as_ref()?;
    let counts = row.counts.as_ref()?;
    // Another thread counts from zero again.
    (row.tid == now.tid && counts.syscalls <= now.counts.as_ref()?.syscalls).then_some(counts)
}

/// The cells of the counts, the last of which is the mean time of an answer.
fn count_cells(now: &CountsReport, old: Option<&CountsReport>, before: Option<&Before>) -> Vec<String> {
    let sums = |counts: &CountsReport| [counts.syscalls, counts.faults, counts.traps, counts.stops];
    let started = old.map(sums).unwrap_or_default();
    let counted: Vec<u64> = sums(now).iter().zip(started).map(|(now, old)| now.saturating_sub(old)).collect();
    let exits: u64 = counted.iter().sum();
    let answered = now.answer_us - old.map(|old| old.answer_us).unwrap_or_default();
    let mut cells: Vec<String> = counted
        .iter()
        .map(|count| match before {
            Some(before) => format!("{:.1}", *count as f64 / before.elapsed.as_secs_f64()),
            None => count.to_string(),
        })
        .collect();
    cells.push(if exits == 0 { "-".to_string() } else { format!("{:.1}", answered / exits as f64) });
    cells
}

/// The status table; with `before`, system calls, faults, traps and stops are those per second since then.
pub fn status(report: &Report, before: Option<&Before>) -> String {
    let per_second = if before.is_some() { "/s" } else { "" };
    let counts = ["SYSCALLS", "FAULTS", "TRAPS", "STOPS"].map(|name| format!("{name}{per_second}"));
    let mut header = vec!["CORE", "STATE", "PID", "TID", "COMMAND", "USER", "SINCE"];
    header.extend(counts.iter().map(String::as_str));
    header.push("µs/EXIT");
    let mut table = table(&header, &[0, 2, 3, 6, 7, 8, 9, 10, 11]);
    for row in &report.cores {
        let Some(core) = &row.compute else {
            table.add_row([row.core.to_string(), "service".to_string()]);
            continue;
        };
        let old = before.and_then(|before| earlier(before, row.core, core));
        let state = match core.reserved_by {
            Some(holder) => format!("{} for {holder}", core.state),
            None => core.state.to_string(),
        };
        let mut cells = vec![
            row.core.to_string(),
            state.replace("reserved for", "reserved by"),
            or_dash(core.pid),
            or_dash(core.tid),
            or_dash(core.comm.as_ref()),
            or_dash(core.user.as_ref()),
            or_dash(core.seconds.map(age)),
        ];
        cells.extend(match &core.counts {
            Some(counts) => count_cells(counts, old, before),
            None => vec!["-".to_string(); 5],
        });
        table.add_row(cells);
    }
    lines(&table) + &top_syscalls(report)
}

/// How many kinds of system call are shown for a core.
const TOP: usize = 5;

/// Under the table: what each core's thread calls most.
fn top_syscalls(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.cores {
        let Some(counts) = row.compute.as_ref().and_then(|core| core.counts.as_ref()) else { continue };
        let mut calls: Vec<_> = counts.syscalls_by_number.iter().filter(|call| call.count > 0).collect();
        calls.sort_by_key(|call| (std::cmp::Reverse(call.count), call.number));
        let shown: Vec<String> = calls
            .iter()
            .take(TOP)
            .map(|call| format!("{} {} × {:.1} µs", call.name, call.count, call.us / call.count as f64))
            .collect();
        if !shown.is_empty() {
            text += &format!("core {}: {}\n", row.core, shown.join(", "));
        }
    }
    text
}

/// `corectl list`: one line a core.
pub fn list(report: &Report, sysfs: &Sysfs) -> String {
    let mut table = table(&["CORE", "ROLE", "STATE", "OWNER"], &[0]);
    for row in &report.cores {
        let (state, owner) = match &row.compute {
            None => ("-", String::new()),
            Some(core) => (core.state, owner(core, sysfs)),
        };
        table.add_row([row.core.to_string(), row.role.to_string(), state.to_string(), owner]);
    }
    lines(&table)
}

fn owner(core: &ComputeReport, sysfs: &Sysfs) -> String {
    match (core.pid, core.reserved_by) {
        (Some(pid), _) => format!("PID {pid} ({})", core.comm.as_deref().unwrap_or_default()),
        (None, Some(holder)) => sysfs.process(holder).to_string(),
        (None, None) => String::new(),
    }
}

/// `corectl show`: everything about one core, a line each.
pub fn show(row: &CoreReport) -> String {
    let mut text = format!("core {}\n", row.core);
    let mut line = |name: &str, value: String| text += &format!("  {name:<22}{value}\n");
    line("role", row.role.to_string());
    let Some(core) = &row.compute else { return text };
    line("state", core.state.to_string());
    line("process", or_dash(core.pid));
    line("thread", or_dash(core.tid));
    line("command", or_dash(core.comm.as_ref()));
    line("user", or_dash(core.user.as_ref()));
    line("reserved by", or_dash(core.reserved_by));
    line("since", or_dash(core.seconds.map(age)));
    let Some(counts) = &core.counts else { return text };
    line("system calls", counts.syscalls.to_string());
    line("faults", counts.faults.to_string());
    line("traps", counts.traps.to_string());
    line("stops", counts.stops.to_string());
    line("answer time", format!("{:.1} µs", counts.answer_us));
    for call in &counts.syscalls_by_number {
        let each = call.us / call.count.max(1) as f64;
        line(&format!("  {}", call.name), format!("{} × {each:.1} µs", call.count));
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
