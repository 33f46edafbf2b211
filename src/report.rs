//! How things are shown to people.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};

/// An error with its causes, the outermost first.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut shown = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        shown = format!("{shown}: {error}");
        cause = error.source();
    }
    shown
}

/// Prints to standard output. A reader that has gone away, such as `head`, wanted no more of it.
pub(crate) fn print(text: &dyn Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// How wide a table is where there is no terminal to fit.
const WIDTH: u16 = 140;

/// A table that fits the terminal.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header).add_rows(rows);
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table
}
