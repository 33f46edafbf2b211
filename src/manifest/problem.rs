//! What is wrong with a manifest, and where.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A file that problems are in: the manifest, or a script that it names.
#[derive(Debug)]
pub struct SourceFile {
    /// What it is called in reports: its path, as it was given.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub file: Arc<SourceFile>,
    /// The bytes of the file that it is about; an empty range is a place.
    pub span: Range<usize>,
    /// What to say right there, if not the message.
    pub label: Option<String>,
    /// What would be right.
    pub help: Option<String>,
}

/// All that is wrong. There is at least one.
#[derive(Debug, Clone)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// A problem with this place.
    pub fn new(file: &Arc<SourceFile>, span: Range<usize>, message: impl fmt::Display) -> Self {
        let (message, file) = (message.to_string(), Arc::clone(file));
        Self { message, file, span, label: None, help: None }
    }

    /// The same, with what to say at the place.
    #[must_use]
    pub fn with_label(self, label: impl fmt::Display) -> Self {
        Self { label: Some(label.to_string()), ..self }
    }

    /// The same, with what would be right.
    #[must_use]
    pub fn with_help(self, help: impl fmt::Display) -> Self {
        Self { help: Some(help.to_string()), ..self }
    }
}
