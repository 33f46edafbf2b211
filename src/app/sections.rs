//! Where in a manifest something is, by its path.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::manifest::SourceFile;

/// The bytes of what is at `path`, if it is there; the last part of the path included.
pub(super) fn place(file: &SourceFile, path: &[&str]) -> Option<Range<usize>> {
    let document = DeTable::parse(&file.text).ok()?;
    let (last, tables) = path.split_last()?;
    let mut table = document.get_ref();
    for part in tables {
        let (_, value) = table.iter().find(|(key, _)| key.get_ref() == part)?;
        let DeValue::Table(inner) = value.get_ref() else { return None };
        table = inner;
    }
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == last)?;
    let (key, value) = (key.span(), value.span());
    // A table is where its header is.
    Some(if value.start >= key.end { key.start..value.end } else { key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile { name: "app.toml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_place_is_the_text_of_what_is_there() {
        let file = file("[app]\noptions = { trace = true }\n\n[functions.\"app:f\"]\nsource = \"f.lua\"\n");
        let text = |path: &[&str]| place(&file, path).map(|span| &file.text[span]);
        assert_eq!(text(&["app", "options"]), Some("options = { trace = true }"));
        assert_eq!(text(&["app", "options", "trace"]), Some("trace = true"));
        assert_eq!(text(&["functions", "app:f", "source"]), Some("source = \"f.lua\""));
        assert_eq!(text(&["app"]), Some("app"));
        assert_eq!(text(&["app", "name"]), None);
        assert_eq!(text(&["telemetry"]), None);
    }
}
