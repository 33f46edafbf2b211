//! `frame man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, Failure};
use crate::exit::Exit;
use crate::report;

/// Prints the manual page, or writes it and one for each command into a directory.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write the pages, such as `~/.local/share/man/man1`. It is made if it is not there.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let Some(dir) = self.dir else {
            report::print_bytes(&page(program)?)?;
            return Ok(Exit::Done);
        };
        let commands: Vec<_> =
            program.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
        fs::create_dir_all(&dir).map_err(|error| unwritable(&dir, &error))?;
        for command in commands.into_iter().chain([program]) {
            let path = dir.join(Man::new(command.clone()).get_filename());
            fs::write(&path, page(command)?).map_err(|error| unwritable(&path, &error))?;
        }
        Ok(Exit::Done)
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Internal, format_args!("{} cannot be written: {error}", path.display()))
}

/// The page of a command. The text behind its help is for a terminal, where lines are as they are written; here the exit
/// codes are a section of their own.
fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let (has_commands, has_version) = (command.has_subcommands(), command.get_version().is_some());
    let man = Man::new(command).manual("frame");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    exit_status().to_writer(&mut page)?;
    if has_version {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

fn exit_status() -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        roff.control("TP", []);
        roff.text([bold(exit.code().to_string())]);
        roff.text([roman(exit.meaning())]);
    }
    roff
}
