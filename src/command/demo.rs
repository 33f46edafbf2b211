//! `frame demo`.

use frame_registry::BoxError;

use super::Format;
use crate::{demo, report, threads};

/// Runs the example `hello`, and shows what frames carried and which way traffic really took.
///
/// Scripts and a component are called over clearnet and through an overlay network, with files and a trace, and a process is
/// killed and started again. Everything is on this machine's loopback and in a temporary directory. Ends with the code 1 if
/// anything was not as promised.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print what was seen.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Args {
    pub(super) fn run(self) -> Result<(), BoxError> {
        let runtime = threads::runtime()?;
        let seen = runtime.block_on(demo::run())?;
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&seen)?)?,
            Format::Table => {
                report::print(&format_args!(
                    "origin at {}, SOCKS5 relay at {} (its connections come from {})",
                    seen.origin, seen.relay, seen.relay_source
                ))?;
                let rows = seen.calls.iter().map(demo::Call::row);
                let header = ["call", "function", "options", "frame", "path that the origin saw", "outcome"];
                report::print(&report::table(&header, rows))?;
                let demo::Restart { name, killed, started } = &seen.restart;
                report::print(&format_args!(
                    "the process `{name}` was killed as {killed}, and its supervisor started {started}"
                ))?;
            }
        }
        let unexpected: Vec<_> =
            seen.calls.iter().filter(|call| !call.is_as_expected()).map(|call| call.what).collect();
        if unexpected.is_empty() {
            return Ok(());
        }
        Err(format!("not as promised: {}", unexpected.join(", ")).into())
    }
}
