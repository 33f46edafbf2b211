//! The command line.

mod check;
mod demo;
mod options;
mod resolvers;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use frame_registry::BoxError;

use crate::report;

/// Runs the program with the arguments that the process was given.
pub fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(exit) => exit,
        // What is wrong was shown.
        Err(error) if error.is::<check::Refused>() => ExitCode::from(2),
        Err(error) => {
            eprintln!("frame: {}", report::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Shows and runs apps of functions whose frame context is resolved by compile-time registered options.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Demo(demo::Args),
    Resolvers(resolvers::Args),
    Options(options::Args),
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// A table, for people.
    #[default]
    Table,
    /// One JSON object, for programs.
    Json,
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode, BoxError> {
        match self.command {
            Command::Run(args) => return args.run(),
            Command::Check(args) => args.run(),
            Command::Demo(args) => args.run(),
            Command::Resolvers(args) => args.run(),
            Command::Options(args) => args.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}
