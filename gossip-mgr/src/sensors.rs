//! What this node reports about itself: procfs, hwmon, and Tacet's compute cores.

use std::path::Path;

use gossip_core::report::{CoreSet, Report};
use tracing::{info, warn};

use crate::config::SensorsSection;

/// Reads measurements; keeps what is needed to compute differences.
#[derive(Debug)]
pub struct Sensors {
    config: SensorsSection,
    /// Busy and total ticks of each core at the last reading.
    last: Vec<(u64, u64)>,
    /// What could not be read at the last reading.
    failed: Vec<&'static str>,
}

impl Sensors {
    /// Sensors below the configured folders.
    pub fn new(config: SensorsSection) -> Self {
        Self { config, last: Vec::new(), failed: Vec::new() }
    }

    /// Measures. What cannot be read is left out and flagged, and told when that begins and ends.
    pub fn read(&mut self) -> Report {
        let mut report = Report::default();
        let proc = self.config.proc.clone();
        if let Some(name) = text(&proc.join("sys/kernel/hostname")) {
            report.name = name.trim().into();
        }
        let stat = text(&proc.join("stat")).and_then(|stat| self.core_load(&stat));
        let load = text(&proc.join("loadavg")).and_then(|load| load_average(&load));
        let memory = text(&proc.join("meminfo")).and_then(|info| memory(&info));
        let needed = [("stat", stat.is_none()), ("loadavg", load.is_none()), ("meminfo", memory.is_none())];
        self.tell(needed.iter().filter(|(_, failed)| *failed).map(|&(name, _)| name).collect());
        report.health.sensors_failed = !self.failed.is_empty();
        report.core_load = stat.unwrap_or_default();
        report.load_average = load.unwrap_or_default();
        (report.memory_total, report.memory_free) = memory.unwrap_or_default();
        report.health.memory_low = report.memory_total > 0 && report.memory_free < report.memory_total / 20;
        report.temperature = temperature(&self.config.sys.join("class/hwmon"));
        report.health.hot = report.temperature.is_some_and(|t| t >= self.config.max_temperature.saturating_mul(10));
        if let Some((free, used)) = compute_cores(&self.config.sys.join("kernel/decouple")) {
            (report.compute_free, report.compute_used) = (Some(free), Some(used));
        }
        report
    }

    fn tell(&mut self, failed: Vec<&'static str>) {
        if failed != self.failed {
            let folder = self.config.proc.display();
            match &failed[..] {
                [] => info!(%folder, "all sensors can be read again"),
                _ => warn!(%folder, ?failed, "sensors cannot be read"),
            }
            self.failed = failed;
        }
    }

    /// Load of each core since the last reading, from the lines `cpuN user nice system idle iowait
    /// irq softirq steal …` of /proc/stat.
    fn core_load(&mut self, stat: &str) -> Option<Vec<u8>> {
        let mut now = Vec::new();
        for line in stat.lines() {
            let mut fields = line.split_whitespace();
            let name = fields.next()?;
            if !name.starts_with("cpu") {
                break;
            }
            if name == "cpu" {
                continue;
            }
            let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
            let total: u64 = ticks.iter().sum();
            let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
            now.push((total - idle, total));
        }
        if now.is_empty() {
            return None;
        }
        let loads = now
            .iter()
            .enumerate()
            .map(|(core, &(busy, total))| {
                let (busy_before, total_before) = self.last.get(core).copied().unwrap_or_default();
                let passed = total.saturating_sub(total_before).max(1);
                (busy.saturating_sub(busy_before) * 100 / passed).min(100) as u8
            })
            .collect();
        self.last = now;
        Some(loads)
    }
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn load_average(text: &str) -> Option<u32> {
    let first: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some((first * 100.0).round() as u32)
}

fn memory(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((field("MemTotal:")?, field("MemAvailable:")?))
}

/// The highest temperature of all sensors, in tenths of a degree.
fn temperature(hwmon: &Path) -> Option<i16> {
    let chips = std::fs::read_dir(hwmon).ok()?;
    chips
        .flatten()
        .filter_map(|chip| std::fs::read_dir(chip.path()).ok())
        .flat_map(|files| files.flatten())
        .filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("temp") && name.ends_with("_input")
        })
        .filter_map(|file| text(&file.path())?.trim().parse::<i32>().ok())
        .map(|milli| (milli / 100).clamp(i16::MIN.into(), i16::MAX.into()) as i16)
        .max()
}

/// The free compute cores and the number of used ones, from `/sys/kernel/decouple/core<N>/state`.
fn compute_cores(folder: &Path) -> Option<(CoreSet, u16)> {
    let (mut free, mut used) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("core")?.parse().ok());
        if let (Some(core), Some(state)) = (number, text(&entry.path().join("state"))) {
            match state.trim() {
                "idle" => free.push(core),
                _ => used += 1,
            }
        }
    }
    Some((free.into_iter().collect(), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_whole_node_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
        put(&proc.join("sys/kernel/hostname"), "n1\n");
        put(&proc.join("stat"), "cpu 0\ncpu0 10 0 10 80 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\nintr 5\n");
        put(&proc.join("loadavg"), "1.25 0.5 0.1 1/100 1234\n");
        put(&proc.join("meminfo"), "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n");
        put(&sys.join("class/hwmon/hwmon0/temp1_input"), "91500\n");
        put(&sys.join("kernel/decouple/cores"), "1-2\n");
        put(&sys.join("kernel/decouple/core1/state"), "idle\n");
        put(&sys.join("kernel/decouple/core2/state"), "running\n");
        let config = SensorsSection { proc: proc.clone(), sys, ..SensorsSection::default() };
        let mut sensors = Sensors::new(config);
        let report = sensors.read();
        assert_eq!((report.name.as_str(), report.load_average), ("n1", 125));
        assert_eq!(report.core_load, [20, 0]);
        assert_eq!(
            (report.compute_free.map(|free| free.to_string()), report.compute_used),
            (Some("1".into()), Some(1))
        );
        assert_eq!(report.temperature, Some(915));
        assert!(report.health.hot && report.health.memory_low && !report.health.sensors_failed);
        put(&proc.join("stat"), "cpu 0\ncpu0 110 0 10 80 0 0 0 0\ncpu1 50 0 0 150 0 0 0 0\n");
        assert_eq!(sensors.read().core_load, [100, 50]);
    }

    #[test]
    fn what_is_missing_is_flagged() {
        let nowhere =
            SensorsSection { proc: "/nonexistent".into(), sys: "/nonexistent".into(), ..SensorsSection::default() };
        let report = Sensors::new(nowhere).read();
        assert!(report.health.sensors_failed);
        assert_eq!((report.compute_free, report.temperature), (None, None));
    }
}
