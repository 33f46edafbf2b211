//! What a function is given.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use frame_dispatch::Payload;

use crate::command::Failure;
use crate::files::read_at_most;

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
    /// The payload, as bytes or as the JSON that they are. It has at most `most` bytes, which is what the function has memory for.
    pub(super) fn read(self, as_bytes: bool, most: usize) -> Result<Payload, Failure> {
        let bytes = self.bytes(most as u64).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Failure::usage(format_args!(
                "{self} has more than {most} bytes, which is the limit `memory` of the function"
            )),
            _ => Failure::usage(format_args!("{self} cannot be read: {error}")),
        })?;
        if as_bytes {
            return Ok(bytes.into());
        }
        if let Some(number) = too_large_integer(&bytes) {
            return Err(Failure::usage(format_args!(
                "{self} has the number {number}; whole numbers have 64 bits, so pass it as a string"
            )));
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

    fn bytes(&self, most: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Text(text) => read_at_most(text.as_bytes(), most),
            Self::File(path) => read_at_most(File::open(path)?, most),
            Self::Stdin => read_at_most(io::stdin().lock(), most),
        }
    }
}

/// The first whole number in JSON that has more than 64 bits, if there is one: as a number with a fraction it would be another.
fn too_large_integer(json: &[u8]) -> Option<&str> {
    let is_in_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let mut rest = json;
    loop {
        let start = rest.iter().position(|byte| *byte == b'"' || is_in_number(byte))?;
        rest = &rest[start..];
        if rest[0] == b'"' {
            rest = after_string(rest);
            continue;
        }
        let end = rest.iter().position(|byte| !is_in_number(byte)).unwrap_or(rest.len());
        let number = std::str::from_utf8(&rest[..end]).ok()?;
        let digits = number.strip_prefix('-').unwrap_or(number);
        let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            return Some(number);
        }
        rest = &rest[end..];
    }
}

/// What comes after a string, with whose quote `json` begins.
fn after_string(json: &[u8]) -> &[u8] {
    let mut at = 1;
    loop {
        match json.get(at) {
            None => return &[],
            Some(b'"') => return &json[at + 1..],
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 20;
    let shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}
