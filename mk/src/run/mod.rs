//! `mk run`: the comparison. Each system is booted on the same emulated machine, runs the same program, and is counted by the
//! same meter.

mod plan;

use crate::build::{Builder, Kernel, Meter, Vendor};
use crate::child::{Running, interrupted};
use crate::job::{self, Job};
use crate::progress::{Step, duration};
use crate::qemu::{self, Accelerator, Machine};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use fwq::report::{Activity, Report, Run, StormItem, System};
use plan::{Mode, Plan};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Boots of vendor Linux for one activity, at most.
const VENDOR_BOOTS: u32 = 3;

/// Arguments of Debian's kernel that isolate the compute cores as an expert does it.
fn tuned(cores: &str, service: u32) -> String {
    let service = if service == 1 { "0".to_owned() } else { format!("0-{}", service - 1) };
    format!(
        "isolcpus=nohz,domain,managed_irq,{cores} nohz_full={cores} rcu_nocbs={cores} irqaffinity={service} tsc=reliable"
    )
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compared {
    /// Debian's kernel as shipped
    Vendor,
    /// Debian's kernel with isolated, tickless CPUs
    VendorTuned,
    /// Linux on Tacet, ranks on the service core
    Tacet,
    /// Linux on Tacet, ranks decoupled
    TacetDecoupled,
    /// No system at all
    Bare,
}

impl From<Compared> for System {
    fn from(compared: Compared) -> Self {
        match compared {
            Compared::Vendor => Self::Vendor,
            Compared::VendorTuned => Self::VendorTuned,
            Compared::Tacet => Self::Tacet,
            Compared::TacetDecoupled => Self::TacetDecoupled,
            Compared::Bare => Self::Bare,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Disturbance {
    /// Nothing beside the ranks
    Quiet,
    /// Administrators' and other people's work on the service core
    Storm,
    /// Three node managers (gossip-mgr) on the service core that gossip every 256 ms
    Gossip,
}

impl From<Disturbance> for Activity {
    fn from(disturbance: Disturbance) -> Self {
        match disturbance {
            Disturbance::Quiet => Self::Quiet,
            Disturbance::Storm => Self::Storm,
            Disturbance::Gossip => Self::Gossip,
        }
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Prints a table and writes report.json and report.html. Exit status: 0 if the decoupled ranks met no stolen instruction and \
no kernel entry in any measured quantum, 1 if they did, 2 on any other error, 130 if interrupted.

Examples:
  mk run                              the whole comparison
  mk run --quick                      1000 samples, StepSync, decoupled against vendor Linux
  mk run --systems tacet-decoupled --samples 100000
  mk run --cores 5 --ranks 4 -- -m 2G")]
pub struct Arguments {
    /// Cores of the emulated machine
    #[arg(long, default_value_t = 3)]
    cores: u32,
    /// Service cores among them
    #[arg(long, default_value_t = 1)]
    service: u32,
    /// MPI ranks [default: one for each compute core]
    #[arg(long)]
    ranks: Option<u32>,
    /// Measured quanta of each rank [default: 10000, with --quick 1000]
    #[arg(long)]
    samples: Option<u32>,
    /// Length of a quantum: 2^WORK turns of the loop of 66 instructions
    #[arg(long, default_value_t = 16)]
    work: u32,
    /// Quanta before the measured ones
    #[arg(long, default_value_t = 100)]
    warmup: u32,
    /// Modes of MPI-FWQ [default: step,start]
    #[arg(long, value_delimiter = ',')]
    modes: Vec<Mode>,
    /// Systems to compare [default: all five]
    #[arg(long, value_delimiter = ',')]
    systems: Vec<Compared>,
    /// What goes on beside the ranks [default: quiet,storm]
    #[arg(long, value_delimiter = ',')]
    activity: Vec<Disturbance>,
    /// How QEMU executes
    #[arg(long, value_enum, default_value_t = Accelerator::Tcg)]
    accel: Accelerator,
    /// Where the report goes [default: out/run-DATE in the checkout]
    #[arg(long)]
    out: Option<PathBuf>,
    /// 1000 samples, StepSync, decoupled against vendor Linux
    #[arg(long)]
    quick: bool,
    /// Memory of the emulated machine
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Passed to QEMU unchanged
    #[arg(last = true)]
    qemu: Vec<String>,
}

fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

impl Arguments {
    fn plan(&self) -> Result<Plan> {
        let disturbances = or(&self.activity, &[Disturbance::Quiet, Disturbance::Storm]);
        let plan = Plan {
            cores: self.cores,
            service: self.service,
            ranks: self.ranks.unwrap_or(self.cores.saturating_sub(self.service)),
            samples: self.samples.unwrap_or(if self.quick { 1000 } else { 10_000 }),
            work: self.work,
            warmup: self.warmup,
            modes: or(&self.modes, if self.quick { &[Mode::Step] } else { &[Mode::Step, Mode::Start] }),
            activities: disturbances.into_iter().map(Activity::from).collect(),
        };
        plan.check()?;
        Ok(plan)
    }

    fn systems(&self) -> Vec<System> {
        let all = [Compared::Bare, Compared::Vendor, Compared::VendorTuned, Compared::Tacet, Compared::TacetDecoupled];
        let default: &[Compared] = if self.quick { &[Compared::Vendor, Compared::TacetDecoupled] } else { &all };
        or(&self.systems, default).into_iter().map(System::from).collect()
    }
}

/// Checks the options that need no build, so that a mistake is told before anything is installed or compiled.
pub fn check(options: &Arguments) -> Result<()> {
    options.plan().map(drop)
}

/// Measures, prints, writes and judges.
pub fn run(builder: &Builder, options: &Arguments) -> Result<ExitCode> {
    let plan = options.plan()?;
    let systems = options.systems();
    let out = output_folder(builder.tree().root(), options.out.as_deref())?;
    if options.accel == Accelerator::Kvm {
        bail!("--accel kvm: the noise meter counts instructions only under tcg, and there is no other meter yet");
    }
    let machine = Machine {
        cores: plan.cores,
        memory: options.memory.clone(),
        accelerator: options.accel,
        extra: options.qemu.clone(),
    };
    let bench = Bench::prepare(builder, machine, &systems)?;
    let started = Instant::now();
    let mut report = Report::new(describe(builder, &bench.machine)?);
    // What was measured before a failure is reported all the same.
    let ended = systems.iter().try_for_each(|system| bench.system(builder, &plan, *system, &out, &mut report));
    if let Err(error) = &ended {
        report.machine.notes.push(format!("incomplete: {error:#}"));
    }
    if !report.runs.is_empty() {
        report.write(&out)?;
        println!("{}", report.table());
        println!("report: {}/report.html   measured in {}", out.display(), duration(started.elapsed().as_secs_f64()));
    }
    ended?;
    let verdict = report.verdict();
    for warning in &verdict.warnings {
        println!("note: {warning}");
    }
    if !systems.contains(&System::TacetDecoupled) {
        println!("no verdict: the decoupled system was not measured");
        return Ok(ExitCode::SUCCESS);
    }
    for failure in &verdict.failures {
        println!("FAILED: {failure}");
    }
    if verdict.failures.is_empty() {
        println!("decoupled: no stolen instruction and no kernel entry in any measured quantum");
    }
    Ok(if verdict.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The folder for the report, created and tried before anything long begins.
fn output_folder(root: &Path, given: Option<&Path>) -> Result<PathBuf> {
    let folder = match given {
        Some(folder) => std::path::absolute(folder)?,
        None => root.join("out").join(format!("run-{}", date("+%Y%m%d-%H%M%S")?)),
    };
    let problem = || format!("cannot write into {}: choose another folder with --out", folder.display());
    fs::create_dir_all(&folder).with_context(problem)?;
    tempfile::tempfile_in(&folder).with_context(problem)?;
    Ok(folder)
}

fn date(format: &str) -> Result<String> {
    let output = Command::new("date").args(["-u", format]).output().context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn describe(builder: &Builder, machine: &Machine) -> Result<fwq::report::Machine> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(builder.tree().root())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Ok(fwq::report::Machine {
        host: format!("{}, Linux {}", cpu.trim_start_matches([' ', '\t', ':']), kernel.trim()),
        host_cores: std::thread::available_parallelism().map_or(1, |count| count.get()),
        qemu: qemu::version()?,
        accelerator: machine.accelerator.name().to_owned(),
        smp: machine.cores as usize,
        cpu_model: qemu::CPU.to_owned(),
        memory: machine.memory.clone(),
        date: date("+%Y-%m-%dT%H:%M:%SZ")?,
        version: git.unwrap_or_default(),
        qemu_line: machine.line(),
        notes: Vec::new(),
    })
}

/// All that a measurement needs, built.
struct Bench {
    machine: Machine,
    meter: Meter,
    image: Option<PathBuf>,
    vendor: Option<Vendor>,
    tacet: Option<(Kernel, PathBuf)>,
}

impl Bench {
    fn prepare(builder: &Builder, machine: Machine, systems: &[System]) -> Result<Self> {
        let any = |wanted: &[System]| systems.iter().any(|system| wanted.contains(system));
        let vendor = any(&[System::Vendor, System::VendorTuned]);
        let tacet = any(&[System::Tacet, System::TacetDecoupled]);
        Ok(Self {
            machine,
            meter: builder.meter()?,
            vendor: if vendor { Some(builder.vendor()?) } else { None },
            tacet: if tacet { Some(builder.tacet_archive()?) } else { None },
            image: if vendor || tacet { Some(builder.image()?) } else { None },
        })
    }

    /// Measures one system in all that is planned.
    fn system(&self, builder: &Builder, plan: &Plan, system: System, out: &Path, report: &mut Report) -> Result<()> {
        let raw = out.join("raw").join(format!("{system:?}").to_lowercase());
        fs::create_dir_all(&raw)?;
        match system {
            System::Bare => self.floor(builder, plan, &raw, report),
            System::Vendor | System::VendorTuned => self.measure_vendor(builder, plan, system, &raw, report),
            System::Tacet | System::TacetDecoupled => self.measure(builder, plan, system, &raw, report),
        }
    }

    /// The bare-metal floor: one boot for each mode.
    fn floor(&self, builder: &Builder, plan: &Plan, raw: &Path, report: &mut Report) -> Result<()> {
        for mode in &plan.modes {
            let mut step = Step::begin(builder.cache(), &format!("bare metal, {}", mode.name()), plan.samples / 500)?;
            let started = Instant::now();
            let serial = raw.join(format!("{}.log", mode.name()));
            let counts = raw.join(format!("{}.csv", mode.name()));
            let mut command = self.machine.command(&serial);
            command.arg("-kernel").arg(&self.meter.bare).arg("-append").arg(format!(
                "mode={} samples={} work={} warmup={} run=0",
                mode.name(),
                plan.samples,
                plan.work,
                plan.warmup
            ));
            qemu::plugin(&mut command, &self.meter.plugin, &[("out", &counts)]);
            command.args(&self.machine.extra);
            let running = Running::start(&mut command, "QEMU")?;
            let status = running.wait_until(started + timeout(plan, 1), || step.tell(None, ""))?;
            match status.map(|status| status.code()) {
                Some(Some(1)) => {}
                Some(code) => {
                    bail!("the bare-metal floor ended with QEMU status {code:?}; its log is {}", serial.display())
                }
                None => bail!("the bare-metal floor did not end; its log is {}", serial.display()),
            }
            let recording = fwq::bare::read(&serial)?;
            let meter = fwq::meter::Meter::read(&counts)?;
            let mut run = Run::merge(System::Bare, Activity::Quiet, &recording, Some(&meter), Vec::new())?;
            run.wall_s = started.elapsed().as_secs_f64();
            report.push(run);
            step.done();
        }
        Ok(())
    }

    /// A boot for each activity. QEMU before 8.1 now and then runs a stale translation of code that the kernel patches while
    /// another CPU translates it, and the kernel panics: what tracing, kprobes and modules do to vendor Linux in the storm.
    /// Such a boot is made again, at most [`VENDOR_BOOTS`] in all, and told in the report.
    fn measure_vendor(
        &self,
        builder: &Builder,
        plan: &Plan,
        system: System,
        raw: &Path,
        report: &mut Report,
    ) -> Result<()> {
        for activity in &plan.activities {
            let part = Plan { activities: vec![*activity], ..plan.clone() };
            let raw = raw.join(activity.title());
            fs::create_dir_all(&raw).with_context(|| format!("cannot create {}", raw.display()))?;
            for boot in 1..=VENDOR_BOOTS {
                let Err(error) = self.measure(builder, &part, system, &raw, report) else { break };
                if interrupted() || !error.to_string().contains("Kernel panic") {
                    return Err(error);
                }
                let end = if boot == VENDOR_BOOTS { "not measured" } else { "booted again" };
                let note = format!("{}, {}: its kernel panicked under QEMU, {end}", system.title(), activity.title());
                eprintln!("mk: {note}; its console is {}", raw.join("console").display());
                report.machine.notes.push(note);
            }
        }
        Ok(())
    }

    /// One boot of one system with all its runs.
    fn measure(&self, builder: &Builder, plan: &Plan, system: System, raw: &Path, report: &mut Report) -> Result<()> {
        let singles = plan.singles();
        let name = format!("{}, {} runs of {} samples", system.title(), singles.len(), plan.samples);
        let mut step = Step::begin(builder.cache(), &name, 15 + singles.len() as u32 * plan.samples / 300)?;
        let counts = raw.join("meter.csv");
        let arguments =
            if system == System::VendorTuned { tuned(&plan.compute_cores(), plan.service) } else { String::new() };
        let booted = match (system, &self.vendor, &self.tacet) {
            (System::Vendor | System::VendorTuned, Some(kernel), _) => {
                qemu::System::Vendor { kernel, arguments: &arguments }
            }
            (_, _, Some((kernel, archive))) => qemu::System::Tacet { kernel, archive, service_cores: plan.service },
            _ => bail!("{} was not built", system.title()),
        };
        let files = [("job.sh".to_owned(), plan.script(system).into_bytes())];
        let job = Job {
            machine: &self.machine,
            system: booted,
            image: self.image.as_deref().context("the image was not built")?,
            keep_image: false,
            files: &files,
            words: "",
            meter: Some((&self.meter.plugin, &[("out", &counts)])),
            timeout: timeout(plan, singles.len()),
        };
        let mut now = String::from("boot");
        let mut begun: Vec<Instant> = Vec::new();
        let outcome = job::run(&job, |line| {
            if let Some(what) = line.and_then(|line| line.strip_prefix("tacet-run: ")) {
                now = what.to_owned();
                begun.push(Instant::now());
            }
            // A run that has begun counts as half done; the boot is a small part of the whole.
            let fraction = (begun.len() as f64 - 0.5).max(0.0) / singles.len() as f64;
            step.tell(Some(fraction), &now);
        })?;
        let ended = Instant::now();
        fs::write(raw.join("console"), &outcome.console)?;
        fs::write(raw.join("log"), &outcome.log)?;
        copy_results(&outcome.results(), raw)?;
        outcome.expect_success(system.title())?;
        let meter = fwq::meter::Meter::read(&counts)?;
        for (position, single) in singles.iter().enumerate() {
            let recording = fwq::record::Recording::read(&raw.join(format!("run-{}.json", single.id)))?;
            let storm = if single.activity == Activity::Storm { storm_items(raw, single.id)? } else { Vec::new() };
            let mut run = Run::merge(system, single.activity, &recording, Some(&meter), storm)?;
            let end = begun.get(position + 1).copied().unwrap_or(ended);
            run.wall_s = begun.get(position).map_or(0.0, |start| (end - *start).as_secs_f64());
            report.push(run);
        }
        step.done();
        Ok(())
    }
}

/// Longest that one boot may take: an overloaded host stretches time, so this only ends what hangs.
fn timeout(plan: &Plan, runs: usize) -> Duration {
    let quantum = 2f64.powi(plan.work as i32) * 66.0 / 2e9;
    let run = f64::from(plan.samples + plan.warmup) * f64::from(plan.ranks) * (quantum * 40.0 + 0.01);
    Duration::from_secs_f64(240.0 + runs as f64 * (120.0 + run))
}

fn storm_items(raw: &Path, id: u8) -> Result<Vec<StormItem>> {
    let path = raw.join(format!("storm-{id}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("the storm left no {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no list of activities", path.display()))
}

fn copy_results(from: &Path, to: &Path) -> Result<()> {
    for name in crate::cache::sorted_names(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            fs::create_dir_all(&target)?;
            copy_results(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
