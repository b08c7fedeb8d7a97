//! `mk bench`: what single operations cost on each system, and how long each takes to boot.
//!
//! Instructions come from the noise meter: those of every core between two markers, so what another core does for a
//! decoupled thread is counted too, and so is what it does besides.

use crate::build::{Builder, Kernel, Vendor};
use crate::cache::Key;
use crate::job::{self, BEGIN, Job, Outcome};
use crate::kernel_bench::{self, KernelFigure, Measured};
use crate::progress::Step;
use crate::qemu::{Accelerator, Machine, System};
use anyhow::{Context, Result, bail};
use fwq::meter::Meter;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "\
Boots vendor Linux and Tacet in turn. Times on an emulator follow the host's load; instructions hardly do. Exit status: 0 \
done, 1 an operation of the microkernel has more instructions than it may, 2 any other error.

Examples:
  mk bench
  mk bench --json bench.json
  mk bench kernel                                only the microkernel's operations: some seconds
  mk bench kernel --trace signal+wait            one of them, instruction by instruction")]
pub struct Arguments {
    /// Only this part
    part: Option<Part>,
    /// Print one execution of the operation whose name contains this, instruction by instruction, with symbols
    #[arg(long, value_name = "OPERATION", requires = "part")]
    trace: Option<String>,
    /// Operations of each kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    count: u32,
    /// Boots of each system that are timed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    boots: u32,
    /// Write the figures here too
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Operations of the microkernel
    Kernel,
}

/// One operation on one system.
#[derive(Serialize)]
struct Figure {
    system: &'static str,
    operation: &'static str,
    /// Median, nanoseconds.
    median_ns: u64,
    /// Instructions for one operation on each core, by core.
    instructions: Vec<f64>,
}

/// Boots of one system.
#[derive(Serialize)]
struct Boots {
    system: &'static str,
    /// From QEMU's start to the first command that the image's init runs, seconds.
    seconds: Vec<f64>,
}

#[derive(Serialize)]
struct Figures {
    operations: Vec<Figure>,
    kernel: Vec<KernelFigure>,
    boots: Vec<Boots>,
}

/// All that is booted.
struct Bench<'a> {
    builder: &'a Builder<'a>,
    machine: Machine,
    vendor: Vendor,
    kernel: Kernel,
    archive: PathBuf,
    image: PathBuf,
    micro: Vec<u8>,
    plugin: PathBuf,
}

/// Measures and prints.
pub fn run(builder: &Builder, options: &Arguments) -> Result<ExitCode> {
    if let Some(Part::Kernel) = options.part {
        let measured = kernel_bench::measure(builder, &builder.kernel()?, &builder.meter()?.plugin)?;
        match &options.trace {
            Some(operation) => measured.print_trace(operation)?,
            None => measured.print(),
        }
        write(options, &measured.figures)?;
        return Ok(verdict(&measured));
    }
    let (kernel, archive) = builder.tacet_archive()?;
    let bench = Bench {
        builder,
        machine: Machine { cores: 2, memory: "1G".into(), accelerator: Accelerator::Tcg, extra: Vec::new() },
        vendor: builder.vendor()?,
        kernel,
        archive,
        image: builder.image()?,
        micro: fs::read(micro(builder)?)?,
        plugin: builder.meter()?.plugin,
    };
    let count = options.count;
    let mut operations = bench.operations(
        bench.vendor_linux(),
        count,
        &[("vendor Linux", 1, format!("taskset -c 1 /run/job/micro 1 {count}"))],
    )?;
    operations.extend(bench.operations(
        bench.tacet(),
        count,
        &[
            ("Tacet, undecoupled", 1, format!("/run/job/micro 1 {count}")),
            ("Tacet, decoupled", 3, format!("decouple --now -c 1 /run/job/micro 3 {count}")),
        ],
    )?);
    let boots = vec![
        bench.boots("vendor Linux", bench.vendor_linux(), options.boots)?,
        bench.boots("Tacet", bench.tacet(), options.boots)?,
    ];
    let kernel = kernel_bench::measure(builder, &bench.kernel, &bench.plugin)?;
    print(&operations);
    println!();
    kernel.print();
    print_boots(&boots);
    let verdict = verdict(&kernel);
    write(options, &Figures { operations, kernel: kernel.figures, boots })?;
    Ok(verdict)
}

/// Success unless an operation of the microkernel has more instructions than it may; the table says which.
fn verdict(measured: &Measured) -> ExitCode {
    if measured.all_met() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Writes the figures where they were asked for.
fn write(options: &Arguments, figures: &impl Serialize) -> Result<()> {
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(figures)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Bench<'_> {
    fn vendor_linux(&self) -> System<'_> {
        System::Vendor { kernel: &self.vendor, arguments: "tsc=reliable" }
    }

    fn tacet(&self) -> System<'_> {
        System::Tacet { kernel: &self.kernel, archive: &self.archive, service_cores: 1 }
    }

    fn job(&self, system: System, script: String, meter: Option<&Path>) -> Result<Outcome> {
        let files = [("job.sh".to_owned(), script.into_bytes()), ("micro".to_owned(), self.micro.clone())];
        let job = Job {
            machine: &self.machine,
            system,
            image: &self.image,
            keep_image: false,
            files: &files,
            words: "",
            meter: meter.map(|out| (self.plugin.as_path(), out)),
            timeout: Duration::from_secs(300),
        };
        job::run(&job, |_| {})
    }

    /// One boot; each command is a system's name, its first window and what is run.
    fn operations(&self, system: System, count: u32, commands: &[(&'static str, u8, String)]) -> Result<Vec<Figure>> {
        let step = Step::begin(self.builder.cache(), &format!("operations, {}", commands[0].0), 40)?;
        let counts = tempfile::NamedTempFile::new()?;
        let mut script = String::from("set -e\n");
        for (_, window, command) in commands {
            script.push_str(&format!("{command} >results/{window}\n"));
        }
        let outcome = self.job(system, script, Some(counts.path()))?;
        outcome.expect_success(commands[0].0)?;
        let meter = Meter::read(counts.path())?;
        let mut figures = Vec::new();
        for (name, first, _) in commands {
            let path = outcome.results().join(first.to_string());
            let text = fs::read_to_string(&path).with_context(|| format!("{name}: no result"))?;
            for (operation, window) in [("getppid", *first), ("fault", first + 1)] {
                let median = text
                    .lines()
                    .find_map(|line| line.strip_prefix(operation))
                    .and_then(|value| value.trim().parse().ok())
                    .with_context(|| format!("{name}: micro printed no time for {operation}:\n{text}"))?;
                let mut instructions = vec![0.0; self.machine.cores as usize];
                let mut seen = false;
                for counted in meter.windows.iter().filter(|counted| counted.id == window) {
                    seen = true;
                    if let Some(core) = instructions.get_mut(counted.vcpu as usize) {
                        *core += counted.counts.total() as f64 / f64::from(count);
                    }
                }
                if !seen {
                    bail!("{name}: the meter saw no window for {operation}");
                }
                figures.push(Figure { system: name, operation, median_ns: median, instructions });
            }
        }
        step.done();
        Ok(figures)
    }

    /// Boots without the meter, which would slow them.
    fn boots(&self, name: &'static str, system: System, boots: u32) -> Result<Boots> {
        let step = Step::begin(self.builder.cache(), &format!("boots, {name}"), 10 * boots)?;
        let mut seconds = Vec::new();
        for _ in 0..boots {
            let outcome = self.job(system, format!("echo '{BEGIN}'\n"), None)?;
            outcome.expect_success(name)?;
            let boot = outcome.boot.with_context(|| format!("{name}: the job's first line is missing"))?;
            seconds.push(boot.as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        step.done();
        Ok(Boots { system: name, seconds })
    }
}

fn print(operations: &[Figure]) {
    println!("operation  system                median ns   instructions: both cores   core 0   core 1");
    for operation in ["getppid", "fault"] {
        for figure in operations.iter().filter(|figure| figure.operation == operation) {
            let sum: f64 = figure.instructions.iter().sum();
            print!("{operation:10} {:20} {:10} {sum:26.0}", figure.system, figure.median_ns);
            for core in &figure.instructions {
                print!(" {core:8.0}");
            }
            println!();
        }
    }
}

fn print_boots(boots: &[Boots]) {
    println!("\nboot to the first command, s: fastest, median, slowest");
    for boots in boots {
        let (fastest, slowest) = (boots.seconds[0], boots.seconds[boots.seconds.len() - 1]);
        let median = boots.seconds[boots.seconds.len() / 2];
        println!("{:20} {fastest:6.2} {median:6.2} {slowest:6.2}", boots.system);
    }
}

/// The program that does the operations, static, so that it is the same on all systems.
fn micro(builder: &Builder) -> Result<PathBuf> {
    let source = builder.tree().root().join("mk/bench/micro.c");
    let key = Key::new("micro 1").path(&source)?;
    let folder = builder.cache().stage("micro", &key.finish(), |out| {
        let mut step = Step::begin(builder.cache(), "bench program", 2)?;
        let mut command = Command::new("gcc");
        command.args(["-O2", "-static", "-Wall", "-Wextra", "-o"]).arg(out.join("micro")).arg(&source);
        step.run(&mut command, "the compilation of the bench program")?;
        step.done();
        Ok(())
    })?;
    Ok(folder.join("micro"))
}
