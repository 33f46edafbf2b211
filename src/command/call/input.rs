//! What a function is given.

use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, io};

use frame_dispatch::Payload;
use frame_registry::text::shorten;
use frame_registry::{OptionError, Options};
use serde_json::Value as Json;

use crate::command::Failure;
use crate::files::read_at_most;
use crate::report;

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
                    format!("; for a text write '\"{}\"'", shorten(text, 20))
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

/// `NAME=VALUE`: an option that is declared, and a value that it takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GivenOption {
    name: String,
    value: Json,
}

impl FromStr for GivenOption {
    type Err = String;

    /// The value is read as JSON if it is JSON, and otherwise taken for a text.
    fn from_str(given: &str) -> Result<Self, String> {
        let Some((name, text)) = given.split_once('=') else {
            return Err("an option is NAME=VALUE, such as `network=app:tor`".to_owned());
        };
        let text_value = || Json::String(text.to_owned());
        let read = serde_json::from_str(text);
        let value = read.as_ref().map_or_else(|_| text_value(), Json::clone);
        let Err(refused) = try_set(name, &value) else { return Ok(Self { name: name.to_owned(), value }) };
        let mut message = report::chain(&refused);
        match read {
            // What was meant for JSON was taken for a text.
            Err(error) if text.starts_with(['{', '[', '"']) => {
                message = format!("{message}; nor is it JSON: {error}");
            }
            // What was meant for a text was taken for JSON.
            Ok(Json::Number(_) | Json::Bool(_) | Json::Null) if try_set(name, &text_value()).is_ok() => {
                message = format!("{message}; for a text write `{name}=\"{text}\"`, with the quotes");
            }
            _ => (),
        }
        Err(message)
    }
}

fn try_set(name: &str, value: &Json) -> Result<(), OptionError> {
    Options::new().set_json(name, value)
}

/// The options of a call.
pub(super) fn options(given: &[GivenOption]) -> Result<Options, Failure> {
    let mut options = Options::new();
    for (index, option) in given.iter().enumerate() {
        if given[..index].iter().any(|before| before.name == option.name) {
            return Err(Failure::usage(format_args!(
                "option `{}` is given twice; leave one out",
                option.name
            )));
        }
        options.set_json(&option.name, &option.value)?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Json, String> {
        text.parse::<GivenOption>().map(|given| given.value)
    }

    #[test]
    fn a_value_is_json_or_else_a_text() {
        assert_eq!(parse("timeout=2s"), Ok(json!("2s")));
        assert_eq!(parse("retry=3"), Ok(json!(3)));
        assert_eq!(parse("retry={\"attempts\":3}"), Ok(json!({ "attempts": 3 })));
        assert_eq!(parse("network=app:tor"), Ok(json!("app:tor")));
        assert_eq!(parse("network=\"app:tor\""), Ok(json!("app:tor")));
        assert_eq!(parse("isolation=a=b"), Ok(json!("a=b")), "only the first sign divides");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let error = |text| parse(text).unwrap_err();
        assert!(error("network").contains("NAME=VALUE"));
        // As from a variable of the shell that is not set.
        for given in ["network=", "network=\"\"", "isolation=", "fs_root="] {
            let error = error(given);
            assert!(error.ends_with("is empty; leave it out, or give it a value"), "{error}");
        }
        assert_eq!(error("netwrok=app:tor"), "no option is named `netwrok`; did you mean `network`?");
        let unclosed = error("retry={\"attempts\":3");
        assert!(unclosed.contains("`retry`") && unclosed.contains("nor is it JSON: EOF"), "{unclosed}");
        let number = error("isolation=7");
        assert!(number.contains("`isolation=\"7\"`"), "{number}");
        assert_eq!(parse("isolation=\"7\""), Ok(json!("7")));
    }

    #[test]
    fn an_option_that_is_given_twice_is_refused() {
        let given: Vec<GivenOption> =
            ["retry=3", "timeout=2s", "retry=4"].map(|text| text.parse().unwrap()).into();
        assert_eq!(options(&given[..2]).unwrap().len(), 2);
        assert_eq!(options(&given).unwrap_err().exit(), crate::exit::Exit::Usage);
    }
}
