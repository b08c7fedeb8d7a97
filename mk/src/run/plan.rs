//! What is to be measured: the options, checked, and the script that a system runs.

use anyhow::{Result, bail};
use fwq::report::{Activity, System};

/// A mode of MPI-FWQ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// A barrier before each quantum
    Step,
    /// One barrier at the start
    Start,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Start => "start",
        }
    }
}

/// One call of mpi-fwq within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single {
    /// Its number in the meter's records and its files' names.
    pub id: u8,
    pub mode: Mode,
    pub activity: Activity,
}

/// The measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cores: u32,
    pub service: u32,
    pub ranks: u32,
    pub samples: u32,
    pub work: u32,
    pub warmup: u32,
    pub modes: Vec<Mode>,
    pub activities: Vec<Activity>,
}

impl Plan {
    /// Refuses what cannot be measured, before anything is built.
    pub fn check(&self) -> Result<()> {
        if !(2..=64).contains(&self.cores) {
            bail!("--cores {}: the machine has 2 to 64 cores, one of them at least a compute core", self.cores);
        }
        if self.service == 0 || self.service >= self.cores {
            bail!("--service {}: of {} cores, 1 to {} may be service cores", self.service, self.cores, self.cores - 1);
        }
        let compute = self.cores - self.service;
        if self.ranks == 0 || self.ranks > compute {
            bail!(
                "--ranks {}: there are {compute} compute cores ({} cores, {} of them service cores), and each rank needs one",
                self.ranks,
                self.cores,
                self.service
            );
        }
        if !(10..=2_000_000).contains(&self.samples) {
            bail!("--samples {}: 10 to 2000000", self.samples);
        }
        if !(3..=30).contains(&self.work) {
            bail!("--work {}: 3 to 30 (the quantum is 2^WORK turns of the loop)", self.work);
        }
        Ok(())
    }

    /// The compute cores as a list, `1-2`.
    pub fn compute_cores(&self) -> String {
        let last = self.service + self.ranks - 1;
        if last == self.service { last.to_string() } else { format!("{}-{last}", self.service) }
    }

    /// All calls of mpi-fwq in one boot.
    pub fn singles(&self) -> Vec<Single> {
        let mut singles = Vec::new();
        for activity in &self.activities {
            for mode in &self.modes {
                singles.push(Single { id: singles.len() as u8, mode: *mode, activity: *activity });
            }
        }
        singles
    }

    /// The script for a system that runs under Linux.
    pub fn script(&self, system: System) -> String {
        let ranks = self.ranks;
        // The launcher and the ranks' helper threads stay on the service core, on vendor Linux too.
        let (launcher, placement) = match system {
            System::Vendor | System::VendorTuned => {
                (format!("taskset -c 0 mpirun -n {ranks} mpi-fwq"), format!("--cpus {}", self.compute_cores()))
            }
            System::Tacet => (format!("mpirun --mca mpi_yield_when_idle 1 -n {ranks} mpi-fwq"), String::new()),
            System::TacetDecoupled => (format!("mpirun -n {ranks} decouple mpi-fwq"), String::new()),
            System::Bare => unreachable!("the floor has no scripts"),
        };
        let (samples, work, warmup) = (self.samples, self.work, self.warmup);
        let mut script = format!(
            r#"export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0
gossip() {{ # FILE; three node managers, and what the first says while all are there
    mkdir -p /run/gossip && cd /run/gossip || exit 1
    (umask 077 && head -c 32 /dev/urandom >key)
    for port in 7601 7602 7603; do
        printf '[node]\nlisten = "127.0.0.1:%s"\nseeds = ["127.0.0.1:7601"]\nkey_file = "/run/gossip/key"\n' $port >$port.toml
        printf '[control]\nsocket = "/run/gossip/%s.sock"\n' $port >>$port.toml
        taskset -c 0 gossip-mgr run --config $port.toml 2>>$port.log &
    done
    trap 'kill $(jobs -p); exit' TERM
    while sleep 0.3; do
        taskset -c 0 gossip-mgr status --config 7601.toml >status
        ! grep -q '3 alive' status || cat status >>"$OLDPWD/$1"
    done
}}
measure() {{ # ID MODE ACTIVITY
    echo "tacet-run: $1 $2 $3"
    storm=
    if [ "$3" = storm ]; then
        tacet-storm --cpu 0 --ready /run/ready-$1 --out results/storm-$1.json &
        storm=$!
        until [ -e /run/ready-$1 ]; do sleep 0.1; kill -0 $storm || break; done
    fi
    if [ "$3" = gossip ]; then
        gossip results/gossip-$1 &
        storm=$!
        until [ -e results/gossip-$1 ]; do sleep 0.1; kill -0 $storm || break; done
    fi
    mkdir -p results/run-$1
    {launcher} --mode $2 --samples {samples} --work {work} --warmup {warmup} --run-id $1 \
        --out results/run-$1 --json results/run-$1.json {placement} >results/run-$1.log 2>&1
    status=$?
    if [ -n "$storm" ]; then
        kill $storm
        wait $storm
    fi
    [ $status = 0 ] || {{ echo "tacet-run: $1 failed with status $status"; cat results/run-$1.log; failed=1; }}
}}
"#
        );
        for single in self.singles() {
            script.push_str(&format!("measure {} {} {}\n", single.id, single.mode.name(), single.activity.title()));
        }
        script.push_str("cat /proc/interrupts >results/interrupts\nuname -a >results/uname\nexit $failed\n");
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            cores: 3,
            service: 1,
            ranks: 2,
            samples: 1000,
            work: 16,
            warmup: 10,
            modes: vec![Mode::Step, Mode::Start],
            activities: vec![Activity::Quiet, Activity::Storm],
        }
    }

    #[test]
    fn more_ranks_than_compute_cores_are_refused_with_the_numbers() {
        let message = Plan { ranks: 3, ..plan() }.check().unwrap_err().to_string();
        assert!(message.contains("2 compute cores"), "{message}");
    }

    #[test]
    fn absurd_values_are_refused() {
        assert!(plan().check().is_ok());
        assert!(Plan { samples: 0, ..plan() }.check().is_err());
        assert!(Plan { work: 31, ..plan() }.check().is_err());
        assert!(Plan { service: 3, ..plan() }.check().is_err());
        assert!(Plan { cores: 1, ..plan() }.check().is_err());
    }

    #[test]
    fn each_call_has_a_number_of_its_own() {
        let numbers: Vec<u8> = plan().singles().iter().map(|single| single.id).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        let script = plan().script(System::Vendor);
        assert!(script.contains("measure 3 start storm") && script.contains("--cpus 1-2"));
    }
}
