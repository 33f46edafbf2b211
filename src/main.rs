//! `frame`: shows and runs apps of functions whose frame context is resolved by compile-time registered options.

mod app;
mod command;
mod demo;
mod report;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frame: {}", report::chain(&*error));
            ExitCode::FAILURE
        }
    }
}
