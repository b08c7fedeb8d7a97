//! The circumstances of a measurement: machine, placement, what the system did for the thread.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The machine, as the system under the program shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub hostname: String,
    /// `uname -srm`
    pub kernel: String,
    /// `uname -v`
    pub kernel_build: String,
    pub cpu: String,
    pub cpus_online: String,
    /// The kernel's command line.
    pub cmdline: String,
    pub clocksource: String,
}

fn line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim_end().to_owned()
}

impl Machine {
    /// What cannot be read stays empty: a missing file must not cost the measurement.
    pub fn this() -> Self {
        let sys = |name: &str| line(&format!("/proc/sys/kernel/{name}"));
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name"))
            .map(|l| l.trim_start_matches([' ', '\t', ':']).to_owned())
            .unwrap_or_default();
        Machine {
            hostname: sys("hostname"),
            kernel: format!("{} {} {}", sys("ostype"), sys("osrelease"), std::env::consts::ARCH),
            kernel_build: sys("version"),
            cpu,
            cpus_online: line("/sys/devices/system/cpu/online"),
            cmdline: line("/proc/cmdline"),
            clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }
}

/// Where the measuring thread ran, read at the end of the measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub pid: i32,
    pub tid: i32,
    /// Linux's CPU number.
    pub cpu: Option<usize>,
    /// CPUs that the thread may use, as Linux has it.
    pub allowed: String,
    /// The compute core that holds the thread, if it is decoupled (from /sys/kernel/decouple).
    pub decoupled_core: Option<u32>,
}

impl Placement {
    pub fn of_this_thread() -> Self {
        // SAFETY: three calls without arguments that read the thread's identity and place.
        let (pid, tid, cpu) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid) as i32, libc::sched_getcpu()) };
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        Placement {
            pid,
            tid,
            cpu: usize::try_from(cpu).ok(),
            allowed: allowed.trim().to_owned(),
            decoupled_core: decoupled_core(std::path::Path::new("/sys/kernel/decouple"), tid),
        }
    }
}

/// The core below `root` whose `tid` file names this thread and whose state is not idle.
fn decoupled_core(root: &std::path::Path, tid: i32) -> Option<u32> {
    for entry in fs::read_dir(root).ok()?.flatten() {
        let name = entry.file_name();
        let Some(core) = name.to_str().and_then(|n| n.strip_prefix("core")).and_then(|n| n.parse().ok()) else {
            continue;
        };
        let value = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if value("tid").trim() == tid.to_string() && matches!(value("state").trim(), "running" | "trapped") {
            return Some(core);
        }
    }
    None
}

/// Pin the calling thread to one CPU.
///
/// # Errors
/// [`Error::Usage`] if the CPU does not exist or is not allowed.
pub fn pin(cpu: usize) -> Result<()> {
    let online = || line("/sys/devices/system/cpu/online");
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(Error::Usage(format!("cannot run on CPU {cpu}: there is none; CPUs online: {}", online())));
    }
    // SAFETY: a CPU set is plain bits, zero is a valid value; CPU_SET stays inside, as `cpu` is bounded above; the
    // call reads the set only.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set) != 0
    };
    if failed {
        return Err(Error::Usage(format!(
            "cannot run on CPU {cpu}: {}; CPUs online: {}",
            std::io::Error::last_os_error(),
            online()
        )));
    }
    Ok(())
}

/// What the thread cost the system (getrusage, RUSAGE_THREAD).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub minor_faults: i64,
    pub major_faults: i64,
    pub voluntary_switches: i64,
    pub involuntary_switches: i64,
}

impl Usage {
    pub fn of_this_thread() -> Self {
        // SAFETY: rusage is plain numbers, zero is a valid value; the call fills it. It can fail for bad arguments only.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage
        };
        Usage {
            minor_faults: usage.ru_minflt,
            major_faults: usage.ru_majflt,
            voluntary_switches: usage.ru_nvcsw,
            involuntary_switches: usage.ru_nivcsw,
        }
    }

    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            minor_faults: self.minor_faults - earlier.minor_faults,
            major_faults: self.major_faults - earlier.major_faults,
            voluntary_switches: self.voluntary_switches - earlier.voluntary_switches,
            involuntary_switches: self.involuntary_switches - earlier.involuntary_switches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoupled_thread_is_found_by_its_tid_and_an_idle_cores_last_owner_is_not() {
        let root = tempfile::tempdir().unwrap();
        for (core, state, tid) in [("core1", "idle", "7"), ("core2", "running", "8")] {
            let dir = root.path().join(core);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("state"), format!("{state}\n")).unwrap();
            fs::write(dir.join("tid"), format!("{tid}\n")).unwrap();
        }
        fs::write(root.path().join("cores"), "1-2\n").unwrap();
        assert_eq!(decoupled_core(root.path(), 8), Some(2));
        assert_eq!(decoupled_core(root.path(), 7), None);
    }

    #[test]
    fn pinning_to_a_cpu_that_does_not_exist_says_which_are_there() {
        let error = pin(1000).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("CPU 1000"));
    }
}
