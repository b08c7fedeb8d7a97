//! `gossip-mgr job run`: starts a job, and starts it again on the nodes that are left until it is done.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use gossip_checkpoint::agent::wire::{AllHeldAnswer, Ask, Ended};
use gossip_checkpoint::id::{CheckpointId, Job, Name};
use gossip_checkpoint::recovery::{Room, candidates, place};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::checkpoint::{CheckpointSection, NodeEntry};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::interruption;
use crate::jobs::connect;

/// How often the processes and the nodes are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// An agent that was killed is started again within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration of this node's daemon, with a [checkpoint] section.
    #[arg(short, long)]
    pub config: PathBuf,
    /// The job's name, under which its checkpoints are found again.
    #[arg(long)]
    pub name: Name,
    /// Ranks.
    #[arg(short, long)]
    pub ranks: usize,
    /// Starts without a new checkpoint between them after which it is given up.
    #[arg(long, default_value_t = 5)]
    pub futile: u32,
    /// Seconds to wait for enough nodes.
    #[arg(long, default_value_t = 600)]
    pub wait: u64,
    /// Keep the checkpoints when it is done.
    #[arg(long)]
    pub keep: bool,
    /// What starts the ranks.
    #[arg(long, value_enum, default_value_t = Launcher::Mpirun)]
    pub launcher: Launcher,
    /// More arguments for the launcher; may be given several times.
    #[arg(long = "launcher-arg", allow_hyphen_values = true)]
    pub launcher_args: Vec<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub program: Vec<String>,
}

/// What starts the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Launcher {
    /// Open MPI's.
    Mpirun,
    /// Slurm's, within an allocation.
    Srun,
}

fn say(text: &str) {
    // A log that nobody takes must not end the job.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("gossip-mgr job: {text}\n").as_bytes());
}

/// Runs the job to its end.
///
/// # Errors
/// If it was given up.
pub fn run(config: &Config, args: &RunArgs) -> anyhow::Result<()> {
    let Some(section) = &config.checkpoint else {
        bail!("{} has no [checkpoint] section: docs/gossip-mgr-checkpoint.md has its keys", args.config.display());
    };
    let mut futile = 0;
    let mut newest: Option<CheckpointId> = None;
    let mut starts = 0;
    loop {
        let (placed, found) = placed(config, section, args)?;
        if found > newest {
            (newest, futile) = (found, 0);
        } else if starts > 0 {
            futile += 1;
        }
        if futile >= args.futile {
            bail!(
                "given up: {futile} starts without a new checkpoint between them. What the program says is above; its \
                 checkpoints are kept, and `gossip-mgr jobs` shows them"
            );
        }
        let from = found.map_or_else(|| "the beginning".into(), |id| format!("checkpoint {}", id.number));
        say(&format!("{} starts from {from} on {}", args.name, list(&placed)));
        let mut child = command(section, args, &placed, starts)?.spawn().with_context(|| match args.launcher {
            Launcher::Mpirun => "cannot run mpirun: install openmpi-bin",
            Launcher::Srun => "cannot run srun: it is part of Slurm",
        })?;
        starts += 1;
        let status = watch(config, section, &mut child, &placed)?;
        match status {
            Some(status) if status.success() => {
                if ended(section, args, found)? == Some(Ended::MakesWay) {
                    say(&format!("{} makes way for a node that fails", args.name));
                    futile = 0;
                    continue;
                }
                if !args.keep {
                    let (mut client, welcome) = connect(&section.socket, PATIENCE)?;
                    client.ask(&Ask::ForgetAll { job: Job { owner: welcome.owner, name: args.name.clone() } })?;
                }
                return Ok(());
            }
            Some(status) => say(&format!("{} failed with {status}", args.name)),
            None => say(&format!("{} was ended, as one of its nodes is dead", args.name)),
        }
    }
}

fn list(placed: &[Name]) -> String {
    placed.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
}

fn held(section: &CheckpointSection, name: &Name) -> anyhow::Result<AllHeldAnswer> {
    let begin = Instant::now();
    loop {
        let asked = connect(&section.socket, PATIENCE).and_then(|(mut client, welcome)| {
            Ok(client.all_held(&Job { owner: welcome.owner, name: name.clone() }, None)?)
        });
        match asked {
            Err(error) if begin.elapsed() >= PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(LOOK),
            asked => return asked,
        }
    }
}

/// How the processes that were started after `found` ended, as they said.
fn ended(section: &CheckpointSection, args: &RunArgs, found: Option<CheckpointId>) -> anyhow::Result<Option<Ended>> {
    let all = held(section, &args.name)?;
    let started_after = found.map_or(0, |id| id.attempt);
    Ok(all.ended.filter(|(attempt, _)| *attempt > started_after).map(|(_, ended)| ended))
}

/// Nodes that the others declared dead. If this node's daemon does not answer, nobody is known to be.
fn dead(config: &Config, section: &CheckpointSection) -> Vec<Name> {
    let Ok(Response::Status(status)) = control::ask(&config.control.socket, &Request::Status) else {
        return Vec::new();
    };
    let is_dead = |node: &&NodeEntry| {
        let of = |addr| status.nodes.iter().find(|known| known.node == addr);
        node.gossip.and_then(of).is_some_and(|known| known.state == "dead")
    };
    section.nodes.iter().filter(is_dead).map(|node| node.name.clone()).collect()
}

/// A node for each rank, once there are enough, and the checkpoint that there is.
fn placed(
    config: &Config,
    section: &CheckpointSection,
    args: &RunArgs,
) -> anyhow::Result<(Vec<Name>, Option<CheckpointId>)> {
    let begin = Instant::now();
    let mut told = false;
    loop {
        let all = held(section, &args.name)?;
        let dead = dead(config, section);
        let is_away = |node: &Name| dead.contains(node) || all.silent.iter().any(|(silent, _)| silent == node);
        let is_failing = |node: &Name| all.failing.iter().any(|(failing, _)| failing == node);
        let well = section.nodes.iter().filter(|node| !is_away(&node.name) && !is_failing(&node.name));
        let rooms: Vec<Room> = well.map(|node| Room { node: node.name.clone(), slots: node.slots }).collect();
        let candidates = candidates(&all.held);
        let candidate = candidates.first();
        if let Some(placed) = place(args.ranks, &rooms, candidate) {
            return Ok((placed, candidate.map(|candidate| candidate.id)));
        }
        let room: usize = rooms.iter().map(|room| room.slots).sum();
        let short = format!(
            "{} ranks need a place and the nodes that are well have {room}: repair nodes, or add some to checkpoint.nodes",
            args.ranks
        );
        if begin.elapsed().as_secs() >= args.wait {
            bail!("given up: {short}");
        }
        if !std::mem::replace(&mut told, true) {
            say(&format!("waiting: {short}"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The launcher's command line: ranks that follow each other on one node are one part of it.
fn command(section: &CheckpointSection, args: &RunArgs, placed: &[Name], starts: u32) -> anyhow::Result<Command> {
    let node =
        |name: &Name| section.nodes.iter().find(|node| node.name == *name).expect("placed on a node of the list");
    let common = [format!("SCR_JOB_NAME={}", args.name), format!("GOSSIP_JOB_RESTARTED={starts}")];
    let socket =
        |node: &NodeEntry| node.socket.as_ref().map(|path| format!("GOSSIP_CHECKPOINT_SOCKET={}", path.display()));
    let mut command = match args.launcher {
        Launcher::Mpirun => {
            let mut command = Command::new("mpirun");
            command.args(["--oversubscribe", "--map-by", "slot"]).args(&args.launcher_args);
            let mut first = true;
            for part in placed.chunk_by(|a, b| a == b) {
                if !std::mem::replace(&mut first, false) {
                    command.arg(":");
                }
                let node = node(&part[0]);
                command.arg("-n").arg(part.len().to_string());
                if let Some(host) = &node.host {
                    command.args(["--host", &format!("{host}:{}", node.slots)]);
                }
                command.arg("env").args(&common).args(socket(node)).args(&args.program);
            }
            command
        }
        Launcher::Srun => {
            // Slurm takes the host of each rank from a file.
            let host = |name: &Name| node(name).host.clone().unwrap_or_else(|| name.to_string());
            let hosts: String = placed.iter().map(|name| host(name) + "\n").collect();
            let file = std::env::temp_dir().join(format!("gossip-mgr-{}-{}.hosts", args.name, std::process::id()));
            std::fs::write(&file, hosts).with_context(|| format!("cannot write {}", file.display()))?;
            let mut command = Command::new("srun");
            command.args(["--distribution=arbitrary", "--ntasks"]).arg(placed.len().to_string());
            command.args(["--kill-on-bad-exit=1", "--no-kill"]).args(&args.launcher_args);
            if let Some(script) = sockets_by_rank(placed.iter().map(|name| node(name).socket.as_deref())) {
                command.args(["sh", "-c", &script, "sh"]);
            }
            command.arg("env").args(&common).args(&args.program);
            command.env("SLURM_HOSTFILE", file);
            command
        }
    };
    // All that it starts is ended with it.
    command.process_group(0).stdin(std::process::Stdio::null());
    Ok(command)
}

/// A shell's script that gives each rank its node's socket, as Slurm has one command for all; none if all are the usual one.
fn sockets_by_rank<'a>(sockets: impl Iterator<Item = Option<&'a Path>>) -> Option<String> {
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    let cases: String = (0..)
        .zip(sockets)
        .filter_map(|(rank, path): (usize, _)| Some(format!("{rank}) s='{}';; ", quoted(path?))))
        .collect();
    (!cases.is_empty()).then(|| {
        format!(
            "case $SLURM_PROCID in {cases}esac; [ -z \"$s\" ] || export GOSSIP_CHECKPOINT_SOCKET=\"$s\"; exec \"$@\""
        )
    })
}

/// Waits for the end; none if it was ended because a node is dead.
fn watch(
    config: &Config,
    section: &CheckpointSection,
    child: &mut Child,
    placed: &[Name],
) -> anyhow::Result<Option<ExitStatus>> {
    let group = Pid::from_raw(child.id() as i32);
    let end = |child: &mut Child| {
        let _ = killpg(group, Signal::SIGTERM);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
        let _ = killpg(group, Signal::SIGKILL);
        child.wait()
    };
    let mut looked = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            // Ranks that mpirun left behind must not write on beside the next attempt.
            let _ = killpg(group, Signal::SIGKILL);
            return Ok(Some(status));
        }
        if interruption::requested() {
            end(child)?;
            bail!("interrupted; its checkpoints are kept");
        }
        if looked.elapsed() >= Duration::from_secs(1) {
            looked = Instant::now();
            if dead(config, section).iter().any(|dead| placed.contains(dead)) {
                end(child)?;
                return Ok(None);
            }
        }
        std::thread::sleep(LOOK);
    }
}
