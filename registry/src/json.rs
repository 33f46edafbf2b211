//! Options given as JSON, by the names they were declared with.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value as Json;

use crate::__private::DeclaredReader;
use crate::link;
use crate::location::Location;
use crate::option::{DeclaredOption, FrameOption, Parser};
use crate::options::{OptionValue, Options};
use crate::suggest::nearest;
use crate::value::{FrameValue, Value};

impl Options {
    /// Reads a JSON object whose members are options.
    ///
    /// ```
    /// # use frame_registry::{FrameOption, Options, frame_option};
    /// use serde_json::json;
    ///
    /// #[frame_option(name = "retries", plain)]
    /// pub static RETRIES: FrameOption<u32>;
    ///
    /// let options = Options::from_json(&json!({ "retries": 3 }))?;
    /// assert_eq!(options.get(&RETRIES), Some(&3));
    ///
    /// let error = Options::from_json(&json!({ "retires": 3 })).unwrap_err();
    /// assert_eq!(error.to_string(), "no option is named `retires`; did you mean `retries`?");
    /// # Ok::<(), frame_registry::OptionError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set_json`](Self::set_json), for the first member that is wrong, and [`OptionError::NotAnObject`].
    pub fn from_json(json: &Json) -> Result<Self, OptionError> {
        let Json::Object(members) = json else {
            return Err(OptionError::NotAnObject { given: shown(json) });
        };
        let mut options = Self::new();
        for (name, value) in members {
            options.set_json(name, value)?;
        }
        Ok(options)
    }

    /// Gives the option declared as `name` a value, in place of the one it has.
    ///
    /// An empty string for an option that is declared with `empty_is_unset` does nothing.
    ///
    /// # Errors
    ///
    /// [`OptionError::Unknown`] if no crate of the program declares the option, [`OptionError::WrongType`] if the
    /// value is not one of its type, [`OptionError::NotText`] if its type cannot be read from text, and
    /// [`OptionError::DeclaredTwice`] if two crates declare it. The options are then as they were.
    pub fn set_json(&mut self, name: &str, value: &Json) -> Result<(), OptionError> {
        let option = declared(name)?;
        if option.empty_is_unset && value.as_str() == Some("") {
            return Ok(());
        }
        let parser = option
            .parser
            .ok_or_else(|| OptionError::NotText { option: option.name, expected: option.type_name() })?;
        let value = (parser.parse)(value).map_err(|source| OptionError::WrongType {
            option: option.name,
            given: if option.is_secret { kind(value).to_owned() } else { shown(value) },
            expected: option.type_name(),
            // serde quotes what it read.
            source: if option.is_secret { serde_json::Error::custom(HIDDEN) } else { source },
        })?;
        self.set_value(OptionValue::new(option, value));
        Ok(())
    }
}

/// An option given as JSON was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// Options are the members of an object.
    #[error("options are a JSON object, such as {{\"name\": value}}; this is {given}")]
    NotAnObject {
        /// What was given.
        given: String,
    },
    /// No crate of the program declares the option.
    #[error("no option is named `{name}`{}", did_you_mean(*.suggestion))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The declared name nearest to it.
        suggestion: Option<&'static str>,
    },
    /// The value is not one of the option's type.
    #[error("option `{option}` is {given}, which is not a `{expected}`")]
    WrongType {
        /// The option.
        option: &'static str,
        /// What was given.
        given: String,
        /// The option's type.
        expected: &'static str,
        /// What the type says of it.
        source: serde_json::Error,
    },
    /// The option's type does not implement `serde::de::DeserializeOwned`.
    #[error("option `{option}` cannot be given as text: `{expected}` does not implement `Deserialize`")]
    NotText {
        /// The option.
        option: &'static str,
        /// The option's type.
        expected: &'static str,
    },
    /// Two crates declare the option, and the linker missed it.
    #[error("option `{option}` is declared twice, at {first} and at {second}; give one of them another name")]
    DeclaredTwice {
        /// The option.
        option: &'static str,
        /// One place.
        first: Location,
        /// The other.
        second: Location,
    },
}

pub(crate) fn did_you_mean(suggestion: Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!("; did you mean `{name}`?"),
        None => "; is the crate that declares it linked? write `use that_crate as _;`".to_owned(),
    }
}

fn declared(name: &str) -> Result<&'static DeclaredOption, OptionError> {
    let mut named = link::options().iter().filter(|listed| listed.option.name == name);
    match (named.next(), named.next()) {
        (Some(listed), None) => Ok(listed.option),
        (Some(first), Some(second)) => Err(OptionError::DeclaredTwice {
            option: first.option.name,
            first: first.location,
            second: second.location,
        }),
        (None, _) => Err(OptionError::Unknown {
            name: shortened(name),
            suggestion: nearest(name, link::options().iter().map(|listed| listed.option.name)),
        }),
    }
}

/// A name in an error, cut where it is longer than any name should be.
pub(crate) fn shortened(name: &str) -> String {
    const LONGEST: usize = 100;
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    // `str::floor_char_boundary` asks for Rust 1.91.
    let end = (0..=LONGEST).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &name[..end])
}

/// What is said of the value of an option that is secret.
const HIDDEN: &str = "the value is hidden, because the option is declared with `secret`";

/// The kind of a value in an error.
fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// A value in an error: its kind, and itself where it is short.
fn shown(json: &Json) -> String {
    const LONGEST: usize = 40;
    match json {
        Json::Bool(value) => format!("the boolean {value}"),
        Json::Number(value) => format!("the number {value}"),
        Json::String(value) if value.is_empty() => "an empty string".to_owned(),
        Json::String(value) if value.chars().count() <= LONGEST => format!("the string {value:?}"),
        Json::String(value) => format!("a string of {} characters", value.chars().count()),
        Json::Null | Json::Array(_) | Json::Object(_) => kind(json).to_owned(),
    }
}

impl<T: FrameValue + DeserializeOwned> DeclaredReader<FrameOption<T>> {
    /// Reads it from JSON.
    pub const PARSER: Option<Parser> = Some(Parser { parse: |json| T::deserialize(json).map(Value::new) });
}
