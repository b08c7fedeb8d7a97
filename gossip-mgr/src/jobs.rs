//! `gossip-mgr jobs` and `gossip-mgr job forget`: what of each job could be restarted from.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use comfy_table::{Table, presets::NOTHING};
use gossip_checkpoint::agent::client::Client;
use gossip_checkpoint::agent::wire::{AllHeldAnswer, Answer, Ask, Ended, Welcome, clock};
use gossip_checkpoint::id::{Job, Level, Name};
use gossip_checkpoint::recovery::{candidates, survives};
use gossip_checkpoint::topology::Host;
use serde::Serialize;

/// What is told about a job.
#[derive(Debug, Serialize)]
pub struct JobStatus {
    /// Its name.
    pub job: String,
    /// Its program; none if too little of any checkpoint is left to tell.
    pub program: Option<String>,
    /// Its ranks.
    pub ranks: Option<u32>,
    /// How often it was started, as far as is known.
    pub attempt: u32,
    /// How its processes last ended, as they said; none while they run, or if they died.
    pub ended: Option<Ended>,
    /// The newest checkpoint of each level from which it could be restarted now.
    pub newest: Vec<Newest>,
    /// What the newest of all survives.
    pub survives: Vec<String>,
    /// Seconds of work that are lost if it fails now, to a failure that the newest survives.
    pub loss_now_s: Option<f64>,
    /// The same for the loss of any one node; none if all work would be lost.
    pub loss_of_a_node_s: Option<f64>,
    /// Seconds that a failure now would cost on average, the restart included, by the model; none without it, or if no
    /// processes run.
    pub expected_loss_s: Option<f64>,
    /// Nodes whose agents do not answer.
    pub silent: Vec<Name>,
    /// What is there and cannot be used.
    pub damaged: Vec<String>,
}

/// A checkpoint.
#[derive(Debug, Serialize)]
pub struct Newest {
    /// Its level.
    pub level: Level,
    /// Its number.
    pub number: u32,
    /// What the program calls it.
    pub name: String,
    /// Its age by the clocks of its node and this one.
    pub age_s: f64,
}

/// Connects to the agent of this node.
///
/// # Errors
/// If none answers.
pub fn connect(socket: &Path, patience: Duration) -> anyhow::Result<(Client, Welcome)> {
    Client::connect(socket, patience).with_context(|| {
        format!(
            "no checkpoint agent answers at {}: is `gossip-mgr run` running with a [checkpoint] section? If it has another \
             configuration, give it with --config",
            socket.display()
        )
    })
}

/// All jobs of this user.
///
/// # Errors
/// If the agent does not answer.
pub fn all(socket: &Path) -> anyhow::Result<Vec<JobStatus>> {
    let (mut client, welcome) = connect(socket, Duration::ZERO)?;
    let Answer::Jobs(jobs) = client.ask(&Ask::AllJobs)? else { bail!("the agent answers something else") };
    let status = |job: Job| Ok(describe(&job, &client.all_held(&job, None)?, &welcome.hosts));
    jobs.into_iter().map(status).collect()
}

/// Removes all checkpoints of a job.
///
/// # Errors
/// If there is no such job, or the agent does not answer.
pub fn forget(socket: &Path, name: &Name) -> anyhow::Result<()> {
    let (mut client, welcome) = connect(socket, Duration::ZERO)?;
    let job = Job { owner: welcome.owner, name: name.clone() };
    let Answer::Jobs(jobs) = client.ask(&Ask::AllJobs)? else { bail!("the agent answers something else") };
    if !jobs.contains(&job) {
        bail!("there are no checkpoints of a job {name}; `gossip-mgr jobs` lists those that have some");
    }
    client.ask(&Ask::ForgetAll { job })?;
    Ok(())
}

fn describe(job: &Job, all: &AllHeldAnswer, hosts: &[Host]) -> JobStatus {
    let held = &all.held;
    let candidates = candidates(held);
    let first = candidates.first();
    let now = clock();
    let age = |written_at: u64| (now - written_at as f64).max(0.0);
    let mut newest: Vec<Newest> = Vec::new();
    for candidate in &candidates {
        let manifest = candidate.manifest();
        if !newest.iter().any(|known| known.level == manifest.level) {
            let (level, name) = (manifest.level, manifest.name.clone());
            newest.push(Newest { level, number: candidate.id.number, name, age_s: age(manifest.written_at) });
        }
    }
    newest.sort_by_key(|newest| newest.level);
    let survives_all = |id, lost: &[&Host]| survives(held, id, &lost.iter().map(|host| &host.name).collect());
    let mut promises = Vec::new();
    if let Some(first) = first {
        let used: Vec<&Host> = hosts.iter().filter(|host| holds(all, &host.name)).collect();
        promises.push("a rank".to_owned());
        if used.iter().all(|host| survives_all(first.id, &[host])) {
            promises.push("any node".into());
            let pairs = used.iter().enumerate().flat_map(|(at, a)| used[at + 1..].iter().map(move |b| [*a, *b]));
            // For many nodes that would take long.
            if used.len() <= 32 && pairs.into_iter().all(|pair| survives_all(first.id, &pair)) {
                promises.push("any two nodes".into());
            }
        }
        let all_go = survives_all(first.id, &used);
        let labels: BTreeSet<&String> = used.iter().flat_map(|host| &host.shares).collect();
        for label in labels {
            let group: Vec<&Host> = used.iter().copied().filter(|host| host.shares.contains(label)).collect();
            if !all_go && survives_all(first.id, &group) {
                promises.push(label.clone());
            }
        }
        if all_go {
            promises.push("all nodes".into());
        }
    }
    let safe = |lost: &Host| candidates.iter().find(|candidate| survives_all(candidate.id, &[lost]));
    let losses = hosts.iter().map(|host| safe(host).map(|candidate| age(candidate.manifest().written_at)));
    let loss_of_a_node_s = losses.collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(0.0, f64::max));
    let stored = held.iter().map(|held| held.id.attempt).max().unwrap_or(0);
    let attempt = stored.max(all.ended.map_or(0, |(attempt, _)| attempt));
    let ended = all.ended.filter(|(ended, _)| *ended >= attempt).map(|(_, ended)| ended);
    let runs = matches!(ended, None | Some(Ended::Not));
    JobStatus {
        job: job.name.to_string(),
        program: first.map(|first| first.manifest().program.clone()),
        ranks: first.map(|first| first.manifest().ranks),
        attempt,
        ended,
        newest,
        survives: promises,
        loss_now_s: first.map(|first| age(first.manifest().written_at)),
        loss_of_a_node_s,
        expected_loss_s: all.expected_loss_s.filter(|(known, _)| runs && *known >= attempt).map(|(_, seconds)| seconds),
        silent: all.silent.iter().map(|(node, _)| node.clone()).collect(),
        damaged: all.damaged.clone(),
    }
}

fn holds(all: &AllHeldAnswer, node: &Name) -> bool {
    let keeper = gossip_checkpoint::recovery::Keeper::Node(node.clone());
    all.held.iter().any(|held| held.keeper == keeper)
}

/// The table that people read.
pub fn table(jobs: &[JobStatus]) -> String {
    if jobs.is_empty() {
        return "no checkpoints of any job\n".into();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "JOB",
        "RANKS",
        "STATE",
        "CHECKPOINTS",
        "SURVIVES",
        "LOSS NOW",
        "WITH A NODE",
        "EXPECTED",
    ]);
    let seconds = |loss: Option<f64>| loss.map_or_else(|| "all".to_owned(), |s| format!("{s:.0} s"));
    let mut notes = String::new();
    for job in jobs {
        let state = match job.ended {
            _ if job.program.is_none() => "nothing to restart from".into(),
            None | Some(Ended::Not) => format!("attempt {}", job.attempt),
            Some(Ended::Finished) => "finished".into(),
            Some(Ended::MakesWay) => "makes way".into(),
        };
        let checkpoints: Vec<String> =
            job.newest.iter().map(|n| format!("{} {} ({:.0} s)", n.level, n.number, n.age_s)).collect();
        table.add_row([
            job.job.clone(),
            job.ranks.map_or_else(|| "-".into(), |ranks| ranks.to_string()),
            state,
            checkpoints.join("\n"),
            job.survives.join(", "),
            seconds(job.loss_now_s),
            seconds(job.loss_of_a_node_s),
            job.expected_loss_s.map_or_else(|| "-".to_owned(), |s| format!("{s:.0} s")),
        ]);
        for node in &job.silent {
            notes += &format!("{}: {node} does not answer\n", job.job);
        }
        for damaged in &job.damaged {
            notes += &format!("{}: not usable: {damaged}\n", job.job);
        }
    }
    format!("{}\n{notes}", table.trim_fmt())
}
