//! Why there is no JSON.

use std::fmt::{self, Display};

use serde_json::error::Category;

/// JSON could not be read or written. What was read or written is not shown, because there may be secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    category: Category,
    line: usize,
    column: usize,
}

impl JsonError {
    /// What kind of error it is.
    pub const fn category(&self) -> Category {
        self.category
    }

    /// The line, counted from 1, or 0 where there is none.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column, counted from 1, or 0 where there is none.
    pub const fn column(&self) -> usize {
        self.column
    }
}

/// Without the message, which quotes values.
impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self { category: error.classify(), line: error.line(), column: error.column() }
    }
}

impl Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.category {
            Category::Io => "it could not be read or written",
            Category::Syntax => "it is no JSON",
            Category::Data => "a value is not what it should be",
            Category::Eof => "it ends too early",
        })?;
        if self.line > 0 {
            write!(f, ", at line {} column {}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_and_where_and_shows_no_value() {
        let error = |text: &str| JsonError::from(serde_json::from_str::<[u8; 2]>(text).unwrap_err());
        let cases = [
            ("[1,\n \"31337\"]", "a value is not what it should be, at line 2 column 8"),
            ("[1,", "it ends too early, at line 1 column 3"),
            ("[31337 31337]", "a value is not what it should be, at line 1 column 6"),
            ("31337x", "a value is not what it should be, at line 1 column 5"),
            ("[1, x]", "it is no JSON, at line 1 column 5"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text).to_string(), expected, "{text}");
            assert!(!format!("{:?}", error(text)).contains("31337"), "{text}");
        }
        let error = serde_json::to_string(&std::collections::HashMap::from([([1], 1)])).unwrap_err();
        assert_eq!(JsonError::from(error).to_string(), "it is no JSON", "and has no place");
    }
}
