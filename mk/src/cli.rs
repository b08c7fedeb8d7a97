//! The command line.

use crate::build::Builder;
use crate::tree::Tree;
use crate::{bench, doc, doctor, image, run, setup, shell, test};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds, boots, measures and tests Tacet.
#[derive(Parser)]
#[command(name = "mk", version, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,

    /// Only list what would have to be installed on this machine; install nothing
    #[arg(long, global = true)]
    pub no_install: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Kernel,
    Linux,
    Tools,
    Image,
    Vendor,
    Meter,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks (apt, as root or through sudo)
    Setup,
    /// Build everything, or one part; what did not change is not built again
    #[command(after_help = "Examples:\n  mk build            everything\n  mk build linux      only Linux for Tacet")]
    Build {
        /// Only this part
        part: Option<Part>,
    },
    /// Compare the noise that MPI ranks meet on vendor Linux and on Tacet
    Run(run::Arguments),
    /// A login shell of Debian 12 on Tacet
    Shell(shell::Arguments),
    /// Boot a system with its console on this terminal (the same as shell)
    Boot(shell::Arguments),
    /// Make the disk image, and an ISO that other machines boot
    Image(image::Arguments),
    /// Measure single operations and boots on vendor Linux and on Tacet
    Bench(bench::Arguments),
    /// Run the tests
    Test(test::Arguments),
    /// Write report.html anew from a report.json and print its table
    #[command(after_help = "Example:\n  mk report out/run-20261121-060000")]
    Report {
        /// Folder with report.json
        folder: PathBuf,
    },
    /// Write a document anew that is made from the source
    Doc {
        /// Which
        document: doc::Document,
    },
    /// Remove what was built
    #[command(
        after_help = "Examples:\n  mk clean          everything but what takes long to fetch: the Debian image and vendor Linux\n  mk clean --all    the whole cache, the shell's disk too"
    )]
    Clean {
        /// The Debian image, vendor Linux and the shell's disk, too
        #[arg(long)]
        all: bool,
    },
    /// Tell what is there, what is missing, and which accelerator can be used
    Doctor,
}

/// Runs the verb that was asked for.
pub fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    let tree = Tree::find()?;
    let builder = Builder::new(&tree);
    match &arguments.verb {
        Verb::Doctor => return doctor::run(&builder),
        Verb::Clean { all } => return clean(&tree, *all),
        Verb::Report { folder } => return report(folder),
        Verb::Doc { document } => return doc::run(&tree, *document).map(|()| ExitCode::SUCCESS),
        // Mistakes on the command line are told before anything is installed.
        Verb::Run(options) => run::check(options)?,
        Verb::Shell(options) | Verb::Boot(options) => options.check()?,
        Verb::Image(options) => options.check()?,
        Verb::Setup | Verb::Build { .. } | Verb::Bench(_) | Verb::Test(_) => {}
    }
    let iso = match &arguments.verb {
        Verb::Image(options) => options.wants_iso(),
        Verb::Shell(options) | Verb::Boot(options) => options.wants_iso(),
        Verb::Test(options) => options.wants_iso(),
        _ => false,
    };
    setup::ensure(arguments.no_install, iso)?;
    match arguments.verb {
        Verb::Setup => println!("everything that mk needs is installed"),
        Verb::Build { part } => build(&builder, part)?,
        Verb::Run(options) => return run::run(&builder, &options),
        Verb::Shell(options) | Verb::Boot(options) => return shell::run(&builder, &options),
        Verb::Image(options) => image::run(&builder, &options)?,
        Verb::Bench(options) => return bench::run(&builder, &options),
        Verb::Test(options) => return test::run(&builder, &options),
        Verb::Doctor | Verb::Clean { .. } | Verb::Report { .. } | Verb::Doc { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn report(folder: &std::path::Path) -> Result<ExitCode> {
    let report = fwq::report::Report::read(folder)?;
    report.write(folder)?;
    println!("{}", report.table());
    println!("{}", folder.join("report.html").display());
    Ok(ExitCode::SUCCESS)
}

/// What `clean` keeps without --all, because it is fetched from the network or is the user's.
const KEPT: &[&str] = &["debian", "vendor", "newer-qemu", "shell", "mk"];

fn clean(tree: &Tree, all: bool) -> Result<ExitCode> {
    for name in crate::cache::sorted_names(tree.cache())? {
        // mk itself runs from there.
        if name == "mk" || (!all && KEPT.contains(&name.as_str())) {
            continue;
        }
        let path = tree.cache().join(&name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
        println!("removed {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn build(builder: &Builder, part: Option<Part>) -> Result<()> {
    match part {
        None => builder.all()?,
        Some(Part::Kernel) => drop(builder.kernel()?),
        Some(Part::Linux) => drop(builder.linux()?),
        Some(Part::Tools) => drop(builder.tools()?),
        Some(Part::Image) => drop(builder.image()?),
        Some(Part::Vendor) => drop(builder.vendor()?),
        Some(Part::Meter) => drop(builder.meter()?),
    }
    println!("up to date in {}", builder.tree().cache().display());
    Ok(())
}
