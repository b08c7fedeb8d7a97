//! `mk bench`: what single operations cost on each system, and how long each takes to boot.
//!
//! Instructions come from the noise meter.

use crate::build::{Builder, Kernel, Vendor};
use crate::job::{self, BEGIN, Job, Outcome};
use crate::kernel_bench::{self, KernelFigure, Measured};
use crate::linux_bench::{self, LinuxFigure};
use crate::progress::Step;
use crate::qemu::{Accelerator, Machine, System};
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "\
Boots vendor Linux and Tacet in turn. Times on an emulator follow the host's load; instructions hardly do. Exit status: 0 \
done, 1 an operation of the microkernel has more instructions than it may, 2 any other error.

Examples:
  mk bench
  mk bench --json bench.json
  mk bench linux                                 only Linux's operations, on vendor Linux and Tacet: two minutes
  mk bench kernel                                only the microkernel's operations: some seconds
  mk bench kernel --trace signal+wait            one of them, instruction by instruction
  mk bench linux --trace getppid                 the same on Tacet, undecoupled, through microkernel and Linux")]
pub struct Arguments {
    /// Only this part
    part: Option<Part>,
    /// Print one execution of the operation whose name contains this, instruction by instruction, with symbols
    #[arg(long, value_name = "OPERATION", requires = "part")]
    trace: Option<String>,
    /// Operations of each kind of Linux's; slow ones are done fewer times
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
    /// Operations of Linux: system calls, faults, processes, messages
    Linux,
    /// Operations of the microkernel
    Kernel,
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
    linux: Vec<LinuxFigure>,
    kernel: Vec<KernelFigure>,
    boots: Vec<Boots>,
}

/// All that is booted.
pub struct Bench<'a> {
    pub builder: &'a Builder<'a>,
    pub machine: Machine,
    pub image: PathBuf,
    pub plugin: PathBuf,
    vendor: Vendor,
    kernel: Kernel,
    archive: PathBuf,
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
        plugin: builder.meter()?.plugin,
    };
    if let Some(operation) = &options.trace {
        linux_bench::trace(&bench, operation)?;
        return Ok(ExitCode::SUCCESS);
    }
    let linux = linux_bench::measure(&bench, options.count)?;
    if let Some(Part::Linux) = options.part {
        linux_bench::print(&linux);
        write(options, &linux)?;
        return Ok(ExitCode::SUCCESS);
    }
    let boots = vec![
        bench.boots("vendor Linux", bench.vendor_linux(), options.boots)?,
        bench.boots("Tacet", bench.tacet(), options.boots)?,
    ];
    let kernel = kernel_bench::measure(builder, &bench.kernel, &bench.plugin)?;
    linux_bench::print(&linux);
    println!();
    kernel.print();
    print_boots(&boots);
    let verdict = verdict(&kernel);
    write(options, &Figures { linux, kernel: kernel.figures, boots })?;
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
    pub fn vendor_linux(&self) -> System<'_> {
        System::Vendor { kernel: &self.vendor, arguments: "tsc=reliable" }
    }

    pub fn tacet(&self) -> System<'_> {
        System::Tacet { kernel: &self.kernel, archive: &self.archive, service_cores: 1 }
    }

    /// The programs whose instructions a trace of Tacet has: the microkernel and Linux.
    pub fn programs(&self) -> Result<[PathBuf; 2]> {
        Ok([self.kernel.microkernel.clone(), self.builder.linux()?.vmlinux])
    }

    /// Runs a script, with the meter where it is to write something.
    pub fn job(&self, system: System, script: String, meter: Option<&[(&str, &Path)]>) -> Result<Outcome> {
        let job = Job {
            machine: &self.machine,
            system,
            image: &self.image,
            keep_image: false,
            files: &[("job.sh".to_owned(), script.into_bytes())],
            words: "",
            meter: meter.map(|files| (self.plugin.as_path(), files)),
            timeout: Duration::from_secs(600),
        };
        job::run(&job, |_| {})
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

fn print_boots(boots: &[Boots]) {
    println!("\nboot to the first command, s: fastest, median, slowest");
    for boots in boots {
        let (fastest, slowest) = (boots.seconds[0], boots.seconds[boots.seconds.len() - 1]);
        let median = boots.seconds[boots.seconds.len() / 2];
        println!("{:20} {fastest:6.2} {median:6.2} {slowest:6.2}", boots.system);
    }
}
