//! What a function is given.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use frame_dispatch::Payload;

use crate::command::Failure;

/// Where the payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// On the command line.
    Text(String),
    /// In a file.
    File(PathBuf),
    /// It comes from standard input.
    Stdin,
}

impl Default for Input {
    fn default() -> Self {
        Self::Text("null".to_owned())
    }
}

impl FromStr for Input {
    type Err = Infallible;

    /// No JSON begins with `@`, or is `-`.
    fn from_str(given: &str) -> Result<Self, Infallible> {
        Ok(match given.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if given == "-" => Self::Stdin,
            None => Self::Text(given.to_owned()),
        })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("the payload"),
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

impl Input {
    /// The payload, as bytes or as the JSON that they are.
    pub(super) fn read(self, as_bytes: bool) -> Result<Payload, Failure> {
        let bytes =
            self.bytes().map_err(|error| Failure::usage(format_args!("{self} cannot be read: {error}")))?;
        if as_bytes {
            return Ok(bytes.into());
        }
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| {
            // What is quoted for a shell is easily not quoted for JSON.
            let hint = match &self {
                Self::Text(text) if !text.is_empty() && !text.starts_with(['"', '{', '[']) => {
                    format!("; for a text write '\"{}\"'", shortened(text))
                }
                _ => String::new(),
            };
            Failure::usage(format_args!("{self} is not JSON: {error}{hint}"))
        })?;
        Ok(json.into())
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => fs::read(path),
            Self::Stdin => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 20;
    let shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}
