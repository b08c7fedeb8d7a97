//! The command line.

use crate::{test, tree::Tree};
use clap::{Parser, Subcommand};
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

#[derive(Subcommand)]
enum Verb {
    /// Run the tests
    Test(test::Arguments),
}

/// Runs the verb that was asked for.
pub fn dispatch(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let tree = Tree::find()?;
    match arguments.verb {
        Verb::Test(options) => test::run(&tree, &options),
    }
}
