//! Experiments with the board, with colonies and with failure detection.

use std::path::Path;

use gossip_core::node::Settings;
use gossip_sim::board;
use gossip_sim::colonies;
use gossip_sim::detection::{Detection, fail_stops, stalls};

use super::plot::{Axis, plot};
use crate::output::OutputError;

/// See `simulate board`.
pub fn board_ages(window: u32, rounds: u32, seed: u64, plots: Option<&Path>) -> anyhow::Result<bool> {
    let mut good = true;
    let mut curves = Vec::new();
    for dead in [0.0, 0.1] {
        let (mut measured, mut expected) = (Vec::new(), Vec::new());
        for nodes in [64, 128, 256, 512, 1024] {
            let age = board::ages(nodes, window, dead, rounds, seed);
            say!(
                "n = {nodes:4}, {:2.0} % dead: mean age {:6.2} rounds, expected {:6.2} ({:+.1} %), \
                 {:.0} entries a push",
                dead * 100.0,
                age.measured,
                age.expected,
                age.deviation() * 100.0,
                age.entries
            )?;
            good &= age.deviation().abs() < 0.05;
            measured.push((f64::from(nodes), age.measured));
            expected.push((f64::from(nodes), age.expected));
        }
        let names = if dead == 0.0 { ("measured", "model") } else { ("measured, 10 % dead", "model, 10 % dead") };
        curves.extend([(names.0, measured), (names.1, expected)]);
    }
    let axes = (Axis::logarithmic("nodes", 2.0), Axis::linear("rounds"));
    plot(plots, "board", "Mean age of the board", axes, &curves)?;
    Ok(good)
}

/// See `simulate colonies`.
pub fn colonies(
    nodes: u32,
    colony: u32,
    whole: u32,
    window: u32,
    seed: u64,
    plots: Option<&Path>,
) -> anyhow::Result<bool> {
    const MASTERS: u32 = 3;
    // A master hears of a colony in few rounds, and then of all of it: many are needed for a mean. How
    // many there are changes nothing for one of them.
    const SAMPLED: u32 = 32;
    const ROUNDS: u32 = 20;
    let mut good = true;
    say!("boards alone, up to {SAMPLED} masters, window {window}: ages in rounds just before the exchange")?;
    let (mut measured, mut expected) = (Vec::new(), Vec::new());
    let mut size = nodes;
    while size >= 8 {
        // Of the first colony some must be none.
        let masters = SAMPLED.min(colony.min(size) / 4).max(1);
        let ages = board::colony_ages(size, colony, masters, window, ROUNDS, seed);
        say!("n = {size:5} in {} colonies of {}: {} entries astray", ages.colonies, ages.within.nodes, ages.strays)?;
        good &= ages.strays == 0;
        let mut line = |what, age: &board::Age| -> Result<(), OutputError> {
            say!(
                "    {what}: mean age {:6.2}, expected {:6.2} ({:+.1} %), {:.0} entries a push",
                age.measured,
                age.expected,
                age.deviation() * 100.0,
                age.entries
            )?;
            good &= age.deviation().abs() < 0.05;
            Ok(())
        };
        line("own colony            ", &ages.within)?;
        if ages.colonies > 1 {
            line("other colonies, master", &ages.at_masters)?;
            measured.push((f64::from(size), ages.at_masters.measured));
            expected.push((f64::from(size), ages.at_masters.expected));
        }
        size /= 2;
        if size <= colony {
            break;
        }
    }
    let settings = Settings { colony: whole.div_ceil(4), masters: MASTERS, window, ..Settings::default() };
    let (_, boards) = colonies::boards(&settings, whole as usize, 20, seed);
    say!(
        "{whole} whole nodes in {} colonies, all known to all after {:.1} s; pushes are spread over the interval, \
         so ages are below the model's",
        boards.colonies,
        boards.joined_after
    )?;
    for (what, (measured, expected)) in
        [("own colony            ", boards.within), ("other colonies, master", boards.at_masters)]
    {
        say!("    {what}: mean age {measured:6.2} intervals, expected below {expected:6.2}")?;
        good &= measured < 1.05 * expected;
    }
    say!(
        "    missing in the own colony {}, at masters {}, astray {}",
        boards.missing,
        boards.missing_at_masters,
        boards.strays
    )?;
    good &= boards.missing + boards.missing_at_masters + boards.strays == 0;
    let curves = [("measured", measured), ("model", expected)];
    let title = "Mean age of other colonies' entries on the masters' boards";
    let axes = (Axis::logarithmic("nodes", 2.0), Axis::linear("rounds"));
    plot(plots, "colonies", title, axes, &curves)?;
    Ok(good)
}

/// See `simulate detection`.
pub fn detection(nodes: usize, deaths: usize, seed: u64, plots: Option<&Path>) -> anyhow::Result<bool> {
    let result = fail_stops(&Settings::default(), nodes, deaths, seed);
    let quantile = |times: &[f64], q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    for (name, times) in [("first node", &result.first), ("last node", &result.last)] {
        say!(
            "{name:10} knows after {:.2} (median), {:.2} (95 %), {:.2} (all) periods",
            quantile(times, 0.5),
            quantile(times, 0.95),
            quantile(times, 1.0)
        )?;
    }
    let within = Detection::share(&result.last, 5.0);
    say!("{:.1} % of {deaths} deaths known to all others within 5 periods", within * 100.0)?;
    let cdf = |times: &[f64]| -> Vec<(f64, f64)> {
        let n = times.len() as f64;
        let points = times.iter().enumerate();
        points.map(|(i, &t)| (t, (i + 1) as f64 / n)).collect()
    };
    let bound = vec![(5.0, 0.0), (5.0, 0.95)];
    let curves =
        [("the first node knows", cdf(&result.first)), ("all other nodes know", cdf(&result.last)), ("bound", bound)];
    let axes = (Axis::linear("periods after the death"), Axis::linear("share of the deaths"));
    plot(plots, "detection", "Detection of deaths", axes, &curves)?;
    Ok(within >= 0.95)
}

/// See `simulate stalls`.
pub fn stalled(nodes: usize, hours: f64, periods: f64, seed: u64, plots: Option<&Path>) -> anyhow::Result<bool> {
    let (mut suspicions, mut deaths) = (Vec::new(), Vec::new());
    let result = stalls(&Settings::default(), nodes, hours, periods, seed, |share, so_far| {
        if share * 200.0 >= suspicions.len() as f64 {
            suspicions.push((share * hours, so_far.suspicions as f64));
            deaths.push((share * hours, so_far.false_deaths as f64));
        }
    });
    say!("{}", serde_json::to_string_pretty(&result)?)?;
    let curves = [("suspicions", suspicions), ("verdicts of death", deaths)];
    let title = "A fifth of the nodes stalls at all times";
    let axes = (Axis::linear("hours"), Axis::linear("so far"));
    plot(plots, "stalls", title, axes, &curves)?;
    Ok(result.false_deaths == 0)
}
