//! Why a subcommand failed.

use std::error::Error;
use std::fmt::Display;
use std::io;

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::AnsiColor;
use frame_registry::BoxError;

use crate::exit::Exit;
use crate::manifest::{Look, Problems};
use crate::report;

/// A subcommand did not do what it was asked for: what to say of that, and the exit code.
///
/// Any error turns into one, with its causes and the exit code of an internal failure.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    report: String,
}

/// How reports on standard error are drawn.
pub(super) fn look() -> Look {
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => Look::Plain,
        _ => Look::Terminal,
    }
}

impl Failure {
    /// A failure with a message, which is shown behind the program's name.
    pub(super) fn new(exit: Exit, message: impl Display) -> Self {
        Self::with_details(exit, &[message.to_string()])
    }

    /// A failure with a message and what there is to add to it, each from a line of its own on.
    pub(super) fn with_details(exit: Exit, details: &[String]) -> Self {
        let style = AnsiColor::Red.on_default().bold();
        let details: Vec<_> = details.iter().map(|text| report::block(text)).collect();
        Self { exit, report: format!("{style}frame:{style:#} {}", details.join("\n  ")) }
    }

    /// A command line or a manifest that is wrong.
    pub(super) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A manifest that is wrong, each problem with its lines.
    pub(super) fn of_manifest(problems: &Problems) -> Self {
        let look = look();
        let count = problems.count();
        let what = if count == 1 { "problem" } else { "problems" };
        Self::with_report(Exit::Usage, format!("{}\n{count} {what}", problems.render(look)))
    }

    /// A failure with a report that is complete: for programs, or of several lines.
    pub(super) fn with_report(exit: Exit, report: impl Into<String>) -> Self {
        Self { exit, report: report.into() }
    }

    /// The exit code.
    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on standard error.
    pub(super) fn print(&self) {
        report::print_error(&self.report);
    }

    /// Says it on standard error of a program that goes on: without waiting for the reader.
    pub(super) fn offer(&self) {
        report::offer_error(&self.report);
    }
}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let exit = if is_exhausted(&*error) { Exit::Exhausted } else { Exit::Internal };
        Self::new(exit, report::chain(&*error))
    }
}

/// Returns whether the system has refused a thread, a descriptor or memory.
fn is_exhausted(error: &(dyn Error + 'static)) -> bool {
    std::iter::once(error).chain(report::causes(error)).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            #[cfg(unix)]
            let is_limit = {
                use rustix::io::Errno;
                let errno = Errno::from_io_error(error);
                [Errno::MFILE, Errno::NFILE, Errno::NOBUFS].map(Some).contains(&errno)
            };
            #[cfg(not(unix))]
            let is_limit = false;
            is_limit || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        })
    })
}
