//! How fast are deaths detected, and is anybody declared dead who is not?

use gossip_core::board::Micros;
use gossip_core::node::{Event, Settings};
use gossip_core::rng::Rng;

use crate::cluster::{Cluster, SECOND};

/// Times from a death to its detection, in periods.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Detection {
    /// Nodes.
    pub nodes: usize,
    /// To the first node that knows, sorted.
    pub first: Vec<f64>,
    /// To the last node that knows, sorted; deaths that some node missed count as infinite.
    pub last: Vec<f64>,
}

impl Detection {
    /// The share of `times` that are at most `periods`.
    pub fn share(times: &[f64], periods: f64) -> f64 {
        times.iter().filter(|&&t| t <= periods).count() as f64 / times.len().max(1) as f64
    }
}

fn converged(settings: &Settings, nodes: usize, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(settings.clone(), nodes, seed);
    cluster.run_until(120 * SECOND, Cluster::is_converged);
    cluster.run(5 * SECOND);
    cluster.events.clear();
    cluster
}

/// Kills one random node after the other, `deaths` times, and restarts it after the verdict.
pub fn fail_stops(settings: &Settings, nodes: usize, deaths: usize, seed: u64) -> Detection {
    let mut cluster = converged(settings, nodes, seed);
    let mut rng = Rng::new(seed, 9);
    let period = settings.detection.period as f64;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..deaths {
        // A random moment between two ticks.
        cluster.run(rng.below(2 * SECOND));
        let victim = rng.below(nodes as u64) as usize;
        let addr = cluster.addr(victim);
        cluster.events.clear();
        cluster.kill(victim);
        let died = cluster.now();
        cluster.run(12 * settings.detection.period);
        let knows = |event: &Event| *event == Event::Died(addr) || *event == Event::Gone(addr);
        let mut times: Vec<Option<Micros>> = vec![None; nodes];
        for (at, host, event) in &cluster.events {
            if knows(event) {
                times[*host].get_or_insert(at - died);
            }
        }
        let others = times.iter().enumerate().filter(|(host, _)| *host != victim);
        let all: Option<Vec<Micros>> = others.clone().map(|(_, t)| *t).collect();
        let earliest = others.filter_map(|(_, t)| *t).min();
        first.push(earliest.map_or(f64::INFINITY, |t| t as f64 / period));
        last.push(all.and_then(|a| a.into_iter().max()).map_or(f64::INFINITY, |t| t as f64 / period));
        cluster.restart(victim);
        cluster.run_until(120 * SECOND, Cluster::is_converged);
    }
    first.sort_by(f64::total_cmp);
    last.sort_by(f64::total_cmp);
    Detection { nodes, first, last }
}

/// What happened while nodes stalled but none died.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Stalls {
    /// Nodes.
    pub nodes: usize,
    /// Simulated hours.
    pub hours: f64,
    /// Stalls.
    pub stalls: u64,
    /// Suspicions raised.
    pub suspicions: u64,
    /// Verdicts of death, by the detector or by SWIM: all of them false.
    pub false_deaths: u64,
    /// Packets a node and second.
    pub packets: f64,
}

/// At all times a fifth of the nodes stalls, each for up to `periods` periods, then others do.
pub fn stalls(
    settings: &Settings,
    nodes: usize,
    hours: f64,
    periods: f64,
    seed: u64,
    mut progress: impl FnMut(f64, &Stalls),
) -> Stalls {
    let mut cluster = converged(settings, nodes, seed);
    let mut rng = Rng::new(seed, 10);
    let end = cluster.now() + (hours * 3_600.0 * SECOND as f64) as Micros;
    let begin = cluster.now();
    let longest = (periods * settings.detection.period as f64) as Micros;
    let mut result = Stalls { nodes, hours, ..Stalls::default() };
    let sent_before = cluster.sent;
    let mut rested = vec![0; nodes];
    while cluster.now() < end {
        let stalled = (0..nodes).filter(|&host| cluster.is_stalled(host)).count();
        if stalled < nodes / 5 {
            let host = rng.below(nodes as u64) as usize;
            // A node that has just come back runs for a moment before it stalls again.
            if !cluster.is_stalled(host) && rested[host] <= cluster.now() {
                let duration = 1 + rng.below(longest);
                cluster.stall(host, duration);
                rested[host] = cluster.now() + duration + settings.detection.period / 4;
                result.stalls += 1;
            }
        }
        cluster.run(settings.detection.period / 16);
        for (_, _, event) in cluster.events.drain(..) {
            match event {
                Event::Suspected(_) => result.suspicions += 1,
                Event::Died(_) | Event::Gone(_) => result.false_deaths += 1,
                _ => {}
            }
        }
        progress((cluster.now() - begin) as f64 / (end - begin) as f64, &result);
    }
    let seconds = (cluster.now() - begin) as f64 / SECOND as f64;
    result.packets = (cluster.sent - sent_before) as f64 / seconds / nodes as f64;
    result
}
