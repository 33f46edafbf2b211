//! `frame completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};
use crate::exit::Exit;
use crate::report;

/// Prints the script that lets a shell complete what `frame` takes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = INSTALL)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

const INSTALL: &str = "\
Where shells look for it:
  bash        frame completions bash > ~/.local/share/bash-completion/completions/frame
  zsh         frame completions zsh > \"${fpath[1]}/_frame\"
  fish        frame completions fish > ~/.config/fish/completions/frame.fish
  elvish      frame completions elvish >> ~/.config/elvish/rc.elv
  powershell  frame completions powershell >> $PROFILE";

impl CompletionsArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), super::NAME, &mut script);
        report::print_bytes(&script)?;
        Ok(Exit::Done)
    }
}
