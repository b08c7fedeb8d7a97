//! What is done to the cluster while the job runs.

use std::fs;
use std::time::Duration;

use crate::cluster::{Cluster, HEAD, NODES, end_all};
use crate::common::wait_for;

/// Random numbers that a seed gives again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Rank,
    Node,
    Partners,
    Minority,
    DiskFull,
    TornWrite,
    BitFlip,
    Daemon,
    Head,
    Launcher,
    Coordinator,
}

pub const ALL: [Fault; 11] = [
    Fault::Rank,
    Fault::BitFlip,
    Fault::DiskFull,
    Fault::Node,
    Fault::Daemon,
    Fault::TornWrite,
    Fault::Partners,
    Fault::Head,
    Fault::Coordinator,
    Fault::Minority,
    Fault::Launcher,
];

impl Cluster {
    pub fn inject(&mut self, fault: Fault, random: &mut Random, relaunch: impl Fn(&mut Self)) {
        let busy = self.busy();
        if busy.is_empty() {
            return;
        }
        let chosen = busy[random.below(busy.len())];
        let kill_a_rank = |cluster: &Self| {
            end_all(&cluster.ranks_on(chosen));
        };
        let mut lost = Vec::new();
        match fault {
            Fault::Rank => kill_a_rank(self),
            Fault::Node => lost.push(chosen),
            // The ring of partners goes on by one, at least, and the next neighbour shares the power supply.
            Fault::Partners => lost.extend([chosen, (chosen + 2) % NODES]),
            Fault::Minority => lost.extend([chosen, busy[random.below(busy.len())]]),
            Fault::DiskFull => {
                if self.is_small {
                    let filler = self.store(chosen).join("filler");
                    // It ends when there is no room left.
                    let _ = fs::write(&filler, vec![0; 8 << 20]);
                    // Some programs say so and go on, others end.
                    self.wait_for_log(&["was given up as rank", " failed with "]);
                    fs::remove_file(filler).unwrap();
                }
            }
            Fault::TornWrite | Fault::BitFlip => {
                let files = self.stored();
                if !files.is_empty() {
                    let path = &files[random.below(files.len())];
                    // It may have been pruned meanwhile.
                    if let Ok(mut bytes) = fs::read(path) {
                        let place = random.below(bytes.len().max(1));
                        if fault == Fault::TornWrite {
                            bytes.truncate(place);
                        } else if let Some(byte) = bytes.get_mut(place) {
                            *byte ^= 1 << random.below(8);
                        }
                        if path.exists() {
                            let _ = fs::write(path, bytes);
                        }
                    }
                }
                kill_a_rank(self);
            }
            Fault::Daemon => {
                self.kill_daemon(chosen);
                std::thread::sleep(Duration::from_millis(300));
                self.start(chosen);
            }
            Fault::Coordinator => {
                let mut coordinator = self.coordinator.take().unwrap();
                coordinator.kill().unwrap();
                coordinator.wait().unwrap();
                kill_a_rank(self);
                self.start_coordinator();
            }
            Fault::Head => {
                self.kill_daemon(HEAD);
                kill_a_rank(self);
                std::thread::sleep(Duration::from_millis(300));
                self.start(HEAD);
            }
            Fault::Launcher => {
                // With all that it started.
                let mut job = self.job.take().unwrap();
                job.kill().unwrap();
                job.wait().unwrap();
                for node in 0..NODES {
                    end_all(&self.ranks_on(node));
                }
                relaunch(self);
            }
        }
        lost.sort_unstable();
        lost.dedup();
        if !lost.is_empty() {
            self.lose(&lost);
            let starts = self.log().matches(" starts from ").count();
            wait_for("the job is started elsewhere", || {
                let done = self.log().matches(" starts from ").count() > starts || !self.is_running();
                done.then_some(())
            });
            lost.into_iter().for_each(|node| self.start(node));
        }
    }
}
