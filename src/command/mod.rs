//! The command line.

mod audit;
mod call;
mod check;
mod demo;
mod failure;
mod generate;
mod options;
#[cfg(unix)]
mod ps;
mod resolvers;
mod run;

use std::io::{self, Write as _};
use std::panic::resume_unwind;
use std::process::ExitCode;
#[cfg(unix)]
use std::sync::Arc;
use std::thread;

use clap::{Parser, Subcommand, ValueEnum};
use frame_registry::BoxError;

use self::failure::Failure;
use crate::exit::Exit;
use crate::report;
use crate::telemetry::output;

/// What the program is called, in its help and its manual.
const NAME: &str = "frame";

/// How much stack a command has, as the first thread of a program has it on most systems.
const STACK: usize = 8 << 20;

/// Runs the program with the arguments that the process was given. Call it first in `main`.
pub fn main() -> ExitCode {
    // In the helper process of a network this does not return.
    frame_net::wireguard::helper::init();
    #[cfg(unix)]
    outlive_file_limit();
    // The stack of the first thread is as large as `ulimit -s` says, and may be too small.
    let builder = thread::Builder::new().name("frame-main".to_owned()).stack_size(STACK);
    let exit = match builder.spawn(run).map(thread::JoinHandle::join) {
        Ok(Ok(exit)) => exit,
        Ok(Err(panic)) => resume_unwind(panic),
        // Some commands need no other thread.
        Err(_) => run(),
    };
    exit.into()
}

fn run() -> Exit {
    let done = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => print(&error),
    };
    let exit = done.unwrap_or_else(|failure| {
        failure.print();
        failure.exit()
    });
    // What is said is queued once the program logs.
    if let Some(output) = output::started() {
        output.flush();
    }
    exit
}

/// Has a write past the limit of file sizes (`ulimit -f`) fail. Otherwise SIGXFSZ ends the program, so that a script which
/// writes too much, or a log that does, would end all others.
#[cfg(unix)]
fn outlive_file_limit() {
    // If it cannot be registered the signal ends the program as before.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// Prints what clap has to say: help, the version, or what is wrong with the command line.
fn print(error: &clap::Error) -> Result<Exit, Failure> {
    if !error.use_stderr() {
        report::unless_gone(error.print().and_then(|()| io::stdout().flush()))?;
        return Ok(Exit::Done);
    }
    // It quotes arguments, which are not always written by the one who runs the program.
    let text = error.render().to_string();
    let shown = text.lines().map(report::printable).collect::<Vec<_>>().join("\n");
    if shown == text.trim_end_matches('\n') {
        // Without a standard error there is no place left for a report.
        let _ = error.print();
    } else {
        report::print_error(&shown);
    }
    Ok(Exit::Usage)
}

/// Runs apps of functions and processes, whose frame context is resolved by options registered at compile time.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_long_help = Exit::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// In the order in which one comes to need them: an app, then what the program is made of, then the program itself.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Call(call::CallArgs),
    #[cfg(unix)]
    Ps(ps::PsArgs),
    Audit(audit::AuditArgs),
    Resolvers(resolvers::ResolversArgs),
    Options(options::OptionsArgs),
    Demo(demo::DemoArgs),
    Completions(generate::CompletionsArgs),
    Man(generate::ManArgs),
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
    fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Run(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Call(args) => args.run(),
            #[cfg(unix)]
            Command::Ps(args) => args.run(),
            Command::Audit(args) => args.run(),
            Command::Resolvers(args) => done(args.run()),
            Command::Options(args) => done(args.run()),
            Command::Demo(args) => done(args.run()),
            Command::Completions(args) => args.run(),
            Command::Man(args) => args.run(),
        }
    }
}

/// How what can only fail or be done ends.
fn done(result: Result<(), BoxError>) -> Result<Exit, Failure> {
    Ok(result.map(|()| Exit::Done)?)
}
