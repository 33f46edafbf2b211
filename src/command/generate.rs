//! `frame completions` and `frame man`: files that are generated from the command line.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, Failure};
use crate::exit::Exit;
use crate::report;

/// Prints the manual page, or writes it and one for each command into a directory.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Where to write the pages, such as `~/.local/share/man/man1`. It is made if it is not there.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

impl ManArgs {
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
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    let source = format!("{} {}", super::NAME, env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).title(title).date(DATE).source(source).manual("Frame Manual");
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
    Ok(tidy(&String::from_utf8_lossy(&page)).into_bytes())
}

/// The date of the manual, which changes with what it says.
const DATE: &str = "2026-11-30";

/// How long lines are in the source of a page, in bytes.
const WIDTH: usize = 80;

/// The source of a page without what `mandoc -T lint` has to say of the library's: macros of paragraphs beside each other, a
/// prologue before each section, blanks at the end of lines, and long lines.
fn tidy(page: &str) -> String {
    let mut tidy: Vec<String> = Vec::new();
    let mut lines = page.lines().map(str::trim_end).peekable();
    let mut is_tag = false;
    while let Some(line) = lines.next() {
        let is_prologue = line.starts_with(".ie ") || line.starts_with(".el ");
        if is_prologue && tidy.iter().any(|other| other == line) {
            continue;
        }
        // A break is part of the blank line beside it.
        let is_after_blank = tidy.last().is_some_and(|last| last == ".sp");
        if line == ".br" && (is_after_blank || lines.peek().is_some_and(|next| next.is_empty())) {
            continue;
        }
        match line {
            "" => tidy.push(".sp".to_owned()),
            // The line after this macro is the tag of the paragraph, as a whole.
            text if is_tag || text.starts_with('.') => tidy.push(text.to_owned()),
            text => tidy.extend(wrapped(text)),
        }
        is_tag = line == ".TP";
    }
    tidy.join("\n") + "\n"
}

/// Text in lines, which are filled again where it is shown.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            // At the beginning of a line these would make it a macro.
            Some(_) if word.starts_with(['.', '\'']) => lines.push(format!("\\&{word}")),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
