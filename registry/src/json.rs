//! Options given as JSON, by the names they were declared with.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use crate::__private::DeclaredReader;
use crate::link;
use crate::location::Location;
use crate::option::{DeclaredOption, FrameOption, Parser, Writer};
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
            source: if option.is_secret { serde::de::Error::custom(HIDDEN) } else { source },
        })?;
        self.set_value(OptionValue::new(option, value));
        Ok(())
    }
}

/// What is written beside the options: which are not trusted, and which of these stand over a trusted one. No option has
/// such a name.
const UNTRUSTED: &str = "$untrusted";
const REPLACES_TRUSTED: &str = "$replaces_trusted";

/// As a map of values by declared names, those of secret options included.
///
/// Values that are not [trusted](Options::is_trusted) stay so: their names are the member `$untrusted`, and of those that
/// [replace a trusted one](Options::replaces_trusted) also `$replaces_trusted`.
///
/// # Errors
///
/// If the type of an option does not implement `Serialize`.
impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = |is: fn(&OptionValue) -> bool| {
            self.values().filter(|entry| is(entry)).map(|entry| entry.option.name).collect::<Vec<_>>()
        };
        let marks = [
            (UNTRUSTED, names(|entry| !entry.is_trusted)),
            (REPLACES_TRUSTED, names(|entry| entry.replaces_trusted)),
        ];
        let marks = marks.iter().filter(|(_, names)| !names.is_empty());
        let mut map = serializer.serialize_map(Some(self.len() + marks.clone().count()))?;
        for OptionValue { option, value, .. } in self.values() {
            let Some(writer) = option.writer else {
                let (name, ty) = (option.name, option.type_name);
                return Err(S::Error::custom(format_args!(
                    "option `{name}` cannot be written as text: `{ty}` does not implement `Serialize`"
                )));
            };
            map.serialize_entry(option.name, &(writer.write)(value).map_err(S::Error::custom)?)?;
        }
        for (mark, names) in marks {
            map.serialize_entry(mark, names)?;
        }
        map.end()
    }
}

/// From a map of values by declared names. A value is trusted unless the map says otherwise, so what comes from code that
/// is not trusted is marked with [`untrusted`](Options::untrusted) by its reader. Of a format that describes itself, such
/// as JSON or TOML.
///
/// # Errors
///
/// As [`set_json`](Options::set_json), and if an option is given twice.
impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = Options;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options, by their declared names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Options, A::Error> {
        let mut options = Options::new();
        let (mut untrusted, mut replaces_trusted) = (Vec::<String>::new(), Vec::<String>::new());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                UNTRUSTED => untrusted = map.next_value()?,
                REPLACES_TRUSTED => replaces_trusted = map.next_value()?,
                name if options.iter().any(|option| option.name == name) => {
                    return Err(A::Error::custom(format_args!("option `{name}` is given twice")));
                }
                name => options.set_json(name, &map.next_value()?).map_err(A::Error::custom)?,
            }
        }
        for (mark, names) in [(UNTRUSTED, untrusted), (REPLACES_TRUSTED, replaces_trusted)] {
            for name in names {
                let option = declared(&name).map_err(A::Error::custom)?;
                // It may have been an empty string that is as good as none.
                if let Some(entry) = options.values_mut().find(|entry| entry.option.is(option)) {
                    entry.is_trusted = false;
                    entry.replaces_trusted |= mark == REPLACES_TRUSTED;
                }
            }
        }
        Ok(options)
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

impl<T: FrameValue + Serialize> DeclaredReader<FrameOption<T>> {
    /// Writes it as JSON.
    pub const WRITER: Option<Writer> =
        Some(Writer { write: |value| value.get::<T>().map_or(Ok(Json::Null), serde_json::to_value) });
}
