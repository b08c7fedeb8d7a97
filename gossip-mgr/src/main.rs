//! The command line of the node manager.
//!
//! Exit status: 0 all well; 1 it failed; 2 wrong usage; 3 wrong configuration or key; 4 no daemon
//! answers; 5 an experiment missed its bound.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gossip_mgr::config::Config;
use gossip_mgr::control::{AskError, Request, Response, ask};
use gossip_mgr::daemon::{RunError, run};
use gossip_mgr::interruption::{self, Interrupted};
use gossip_mgr::output::OutputError;
use gossip_mgr::view::{Explained, Status};
use gossip_mgr::{coordinate, job_run, jobs, simulate};

const FAILED: u8 = 1;
const CONFIGURATION: u8 = 3;
const NO_DAEMON: u8 = 4;
const BOUND_MISSED: u8 = 5;

/// The node manager: who is there, how loaded, and who died.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Examples:
  gossip-mgr run                       this node alone, without configuration
  gossip-mgr run --config node.toml    with others; docs/gossip-mgr.md has the keys
  gossip-mgr status --watch            the board, every 2 s
  gossip-mgr explain 10.0.0.7:7600     why that node is suspected
  gossip-mgr simulate board            an experiment"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run this node's manager in the foreground until SIGTERM or Ctrl-C.
    Run {
        /// Configuration file; without one this node is alone on loopback.
        #[arg(short, long)]
        config: Option<PathBuf>,
        /// Log as lines of JSON instead of text.
        #[arg(long)]
        log_json: bool,
    },
    /// Summary and bulletin board.
    Status(Ask),
    /// All nodes with their state.
    Members(Ask),
    /// The bulletin board.
    Board(Ask),
    /// Why a node is held to be alive, suspect or dead.
    Explain {
        /// The node's address, as in `members`.
        #[arg(value_parser = address)]
        node: SocketAddr,
        #[command(flatten)]
        ask: Ask,
    },
    /// Jobs with checkpoints: state, what they survive, what a failure would cost now.
    Jobs {
        /// Configuration file of the daemon, for its checkpoint.socket.
        #[arg(short, long)]
        config: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a job that survives failures, or forget its checkpoints.
    #[command(subcommand)]
    Job(JobCommand),
    /// Let jobs write their checkpoints to shared storage one after the other, until SIGTERM or Ctrl-C.
    Coordinate(coordinate::Args),
    /// Experiments in the simulator.
    Simulate(simulate::Args),
}

#[derive(Subcommand)]
enum JobCommand {
    /// Start a job, and again from its newest checkpoint until it is done.
    Run(job_run::RunArgs),
    /// Remove all checkpoints of a job.
    Forget {
        /// Its name.
        name: gossip_checkpoint::id::Name,
        /// Configuration file of the daemon, for its checkpoint.socket.
        #[arg(short, long)]
        config: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Ask {
    /// Configuration file of the daemon, for its control socket.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Control socket of the daemon.
    #[arg(long, conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask again every so many seconds until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "the IP address and port of a node, as `gossip-mgr members` lists them".into())
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, log_json } => run_daemon(config, log_json),
        Command::Status(how) => show_status(&how, Status::summary),
        Command::Members(how) => show_status(&how, Status::members),
        Command::Board(how) => show_status(&how, Status::board),
        Command::Explain { node, ask } => explain(node, &ask),
        Command::Jobs { config, json } => show_jobs(config.as_ref(), json),
        Command::Job(JobCommand::Run(args)) => run_job(&args),
        Command::Job(JobCommand::Forget { name, config }) => match load(config.as_ref()) {
            Ok(config) => done(jobs::forget(&checkpoint_socket(&config), &name)),
            Err(status) => status,
        },
        Command::Coordinate(args) => run_coordinator(&args),
        Command::Simulate(args) => run_experiment(&args),
    }
}

fn checkpoint_socket(config: &Config) -> PathBuf {
    config.checkpoint.as_ref().map_or_else(gossip_checkpoint::agent::default_socket, |section| section.socket.clone())
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(|error| fail(&error, FAILED), |()| ExitCode::SUCCESS)
}

fn show_jobs(config: Option<&PathBuf>, json: bool) -> ExitCode {
    let config = match load(config) {
        Ok(config) => config,
        Err(status) => return status,
    };
    let jobs = match jobs::all(&checkpoint_socket(&config)) {
        Ok(jobs) => jobs,
        Err(error) => return fail(&error, NO_DAEMON),
    };
    let text = if json { serde_json::to_string(&jobs).unwrap_or_default() + "\n" } else { jobs::table(&jobs) };
    done(std::io::stdout().write_all(text.as_bytes()).map_err(|error| OutputError::from(error).into()))
}

fn run_job(args: &job_run::RunArgs) -> ExitCode {
    let config = match load(Some(&args.config)) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match interruption::watch().and_then(|()| job_run::run(&config, args)) {
        Err(error) if interruption::requested() => fail(&error, interruption::STATUS),
        result => done(result),
    }
}

fn run_coordinator(args: &coordinate::Args) -> ExitCode {
    if !args.show {
        log(false);
    }
    match coordinate::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(coordinate::CoordinateError::Other(error)) => fail(&error, FAILED),
        Err(error @ coordinate::CoordinateError::Silent { .. }) => fail(&error.into(), NO_DAEMON),
        Err(error) => fail(&error.into(), CONFIGURATION),
    }
}

fn run_experiment(args: &simulate::Args) -> ExitCode {
    match simulate::run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BOUND_MISSED),
        // Who reads only the beginning needs no word.
        Err(error) if error.downcast_ref().is_some_and(OutputError::nobody_reads) => ExitCode::from(FAILED),
        Err(error) if error.is::<Interrupted>() => fail(&error, interruption::STATUS),
        Err(error) => fail(&error, FAILED),
    }
}

fn fail(error: &anyhow::Error, status: u8) -> ExitCode {
    // The status tells it too, if standard error cannot be written.
    let _ = writeln!(std::io::stderr(), "gossip-mgr: {error:#}");
    ExitCode::from(status)
}

fn load(path: Option<&PathBuf>) -> Result<Config, ExitCode> {
    match path {
        None => Ok(Config::default()),
        Some(path) => Config::load(path).map_err(|error| fail(&error.into(), CONFIGURATION)),
    }
}

fn log(as_json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A log that cannot be written, as on a full disk, must not end the daemon; there is nowhere to tell of it.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    if as_json {
        log.json().init();
    } else {
        log.init();
    }
}

fn run_daemon(config: Option<PathBuf>, log_json: bool) -> ExitCode {
    log(log_json);
    let config = match load(config.as_ref()) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Other(error)) => fail(&error, FAILED),
        Err(error) => fail(&error.into(), CONFIGURATION),
    }
}

/// Asks the daemon, once or again and again, and prints `form` of each answer, or JSON.
fn show<T: serde::Serialize>(
    how: &Ask,
    request: &Request,
    take: impl Fn(Response) -> Option<T>,
    form: impl Fn(&T) -> String,
) -> ExitCode {
    let socket = match &how.socket {
        Some(socket) => socket.clone(),
        None => match load(how.config.as_ref()) {
            Ok(config) => config.control.socket,
            Err(status) => return status,
        },
    };
    loop {
        let answer = match ask(&socket, request) {
            Ok(answer) => take(answer),
            Err(error @ (AskError::NoDaemon { .. } | AskError::Silent { .. })) => {
                return fail(&error.into(), NO_DAEMON);
            }
            Err(error) => return fail(&error.into(), FAILED),
        };
        let Some(answer) = answer else {
            return fail(&anyhow::anyhow!("the daemon answered something else"), FAILED);
        };
        let text = if how.json { serde_json::to_string(&answer).unwrap_or_default() + "\n" } else { form(&answer) };
        // Clears the screen and goes to its beginning.
        let begin = if how.watch.is_some() && !how.json { "\x1b[2J\x1b[H" } else { "" };
        let mut out = std::io::stdout();
        if let Err(error) = write!(out, "{begin}{text}").and_then(|()| out.flush()) {
            let error = OutputError::from(error);
            // `gossip-mgr status --watch | head` has what it wants.
            return if error.nobody_reads() { ExitCode::SUCCESS } else { fail(&error.into(), FAILED) };
        }
        match how.watch {
            None => return ExitCode::SUCCESS,
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
        }
    }
}

fn show_status(how: &Ask, form: impl Fn(&Status) -> String) -> ExitCode {
    let take = |response| match response {
        Response::Status(status) => Some(*status),
        _ => None,
    };
    show(how, &Request::Status, take, form)
}

fn explain(node: SocketAddr, how: &Ask) -> ExitCode {
    let take = |response| match response {
        Response::Explained(explained) => Some(explained),
        _ => None,
    };
    show(how, &Request::Explain { node }, take, Explained::sentences)
}
