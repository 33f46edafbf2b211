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
use crate::text;
use crate::value::{FrameValue, Value};

impl Options {
    /// Reads a JSON object whose members are options.
    ///
    /// ```
    /// # use frame_registry::{FrameOption, Options, frame_option};
    /// use serde_json::json;
    ///
    /// #[frame_option(name = "retries", dispatcher)]
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

    /// Reads options that a script or a component gives: as [`from_json`](Self::from_json), but marked as
    /// [untrusted](Self::untrusted), and an empty string leaves an option unset that is declared with `empty_is_unset`.
    /// So what a caller or an entry decided is kept.
    ///
    /// # Errors
    ///
    /// As [`from_json`](Self::from_json).
    pub fn from_untrusted_json(json: &Json) -> Result<Self, OptionError> {
        let Json::Object(members) = json else {
            return Err(OptionError::NotAnObject { given: shown(json) });
        };
        let mut options = Self::new();
        for (name, value) in members {
            let option = declared(name)?;
            if !is_as_good_as_unset(option, value) {
                options.set_declared(option, value)?;
            }
        }
        Ok(options.untrusted())
    }

    /// Gives the option declared as `name` a value, in place of the one it has.
    ///
    /// # Errors
    ///
    /// [`OptionError::Unknown`] if no crate of the program declares the option, [`OptionError::WrongType`] if the
    /// value is not one of its type, [`OptionError::Empty`] if it is an empty string and the option is declared with
    /// `empty_is_unset`, [`OptionError::NotText`] if its type cannot be read from text, and
    /// [`OptionError::DeclaredTwice`] if two crates declare it. The options are then as they were.
    pub fn set_json(&mut self, name: &str, value: &Json) -> Result<(), OptionError> {
        let option = declared(name)?;
        if is_as_good_as_unset(option, value) {
            return Err(OptionError::Empty { option: option.name });
        }
        self.set_declared(option, value)
    }

    /// [`set_json`](Self::set_json), where an empty string is a value like any other.
    fn set_declared(&mut self, option: &'static DeclaredOption, value: &Json) -> Result<(), OptionError> {
        let parser = option
            .parser
            .ok_or_else(|| OptionError::NotText { option: option.name, expected: option.type_name() })?;
        let value = (parser.parse)(value).map_err(|source| OptionError::WrongType {
            option: option.name,
            given: if option.is_hidden() { kind(value).to_owned() } else { shown(value) },
            expected: option.type_name(),
            // serde quotes what it read.
            source: if option.is_hidden() { serde::de::Error::custom(HIDDEN) } else { source },
        })?;
        self.set_value(OptionValue::new(option, value));
        Ok(())
    }
}

/// The marks that are written beside the options. No option has such a name.
///
/// Options whose value is not trusted.
const UNTRUSTED: &str = "$untrusted";
/// Options whose value is not trusted, and stands over a trusted one.
const REPLACES_TRUSTED: &str = "$replaces_trusted";
/// Options that are set to the empty string, though one that is given as text leaves them unset.
const EMPTY: &str = "$empty";

/// As a map of values by declared names, those of secret options included.
///
/// Values that are not [trusted](Options::is_trusted) stay so: their names are the member `$untrusted`, and of those that
/// [replace a trusted one](Options::replaces_trusted) also `$replaces_trusted`. An option that is declared with
/// `empty_is_unset` and was set to the empty string by [`set`](Options::set) stays set: its name is also in `$empty`.
///
/// Each value is read back as it was, as far as its type reads the JSON that it writes. JSON has no numbers that are not
/// finite: of an `f64` they are an error, but of an `Option<f64>` they are read back as `None`.
///
/// # Errors
///
/// If the type of an option does not implement `Serialize`, or does not write a value. The error names the option, and
/// hides what the type says of the value if the option is secret.
impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = self
            .values()
            .map(|entry| written(entry).map(|value| (entry, value)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(S::Error::custom)?;
        let names = |is: fn(&OptionValue, &Json) -> bool| {
            let marked = written.iter().filter(|(entry, value)| is(entry, value));
            marked.map(|(entry, _)| entry.option.name).collect::<Vec<_>>()
        };
        let marks = [
            (UNTRUSTED, names(|entry, _| !entry.is_trusted)),
            (REPLACES_TRUSTED, names(|entry, _| entry.replaces_trusted)),
            (EMPTY, names(|entry, value| is_as_good_as_unset(entry.option, value))),
        ];
        let marks = marks.iter().filter(|(_, names)| !names.is_empty());
        let mut map = serializer.serialize_map(Some(written.len() + marks.clone().count()))?;
        for (entry, value) in &written {
            map.serialize_entry(entry.option.name, value)?;
        }
        for (mark, names) in marks {
            map.serialize_entry(mark, names)?;
        }
        map.end()
    }
}

/// Returns the value of an option as JSON, or the reason why it cannot be written.
fn written(OptionValue { option, value, .. }: &OptionValue) -> Result<Json, String> {
    let (name, ty) = (option.name, option.type_name);
    let Some(writer) = option.writer else {
        return Err(format!(
            "option `{name}` cannot be written as text: `{ty}` does not implement `Serialize`"
        ));
    };
    let json = (writer.write)(value).map_err(|error| {
        // A type may quote its value.
        let why = if option.is_hidden() { HIDDEN.to_owned() } else { error.to_string() };
        format!("option `{name}` cannot be written: {why}")
    })?;
    // `null` also stands for numbers that JSON does not have. Whether it does, only the type knows.
    let is_refused = |parser: Parser| has_null(&json) && (parser.parse)(&json).is_err();
    if option.parser.is_some_and(is_refused) {
        return Err(format!(
            "option `{name}` cannot be written: its value contains `null` as JSON, as for a number that is not finite, \
             and `{ty}` does not read that back"
        ));
    }
    Ok(json)
}

fn has_null(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Array(values) => values.iter().any(has_null),
        Json::Object(members) => members.values().any(has_null),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

/// From a map of values by declared names. A value is trusted unless the map says otherwise, so what comes from code that
/// is not trusted is marked with [`untrusted`](Options::untrusted) by its reader. Of a format that describes itself, such
/// as JSON or TOML.
///
/// # Errors
///
/// As [`set_json`](Options::set_json), and if an option or a mark is given twice. The message includes what the type of
/// the option says of the value, unless the option is secret.
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
        // `$empty` first, so that the others find the options it sets.
        let mut marks: [(&str, Option<Vec<String>>); 3] =
            [(EMPTY, None), (UNTRUSTED, None), (REPLACES_TRUSTED, None)];
        // What an empty string means is known once all marks are.
        let mut empty: Vec<&'static DeclaredOption> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some((mark, names)) = marks.iter_mut().find(|(mark, _)| *mark == name) {
                if names.is_some() {
                    return Err(A::Error::custom(format_args!("mark `{mark}` is given twice")));
                }
                *names = Some(map.next_value()?);
            } else if options.iter().chain(empty.iter().copied()).any(|option| option.name == name) {
                return Err(A::Error::custom(format_args!("option `{name}` is given twice")));
            } else {
                let (option, value) = (declared(&name).map_err(with_cause)?, map.next_value()?);
                if is_as_good_as_unset(option, &value) {
                    empty.push(option);
                } else {
                    options.set_declared(option, &value).map_err(with_cause)?;
                }
            }
        }
        let is_marked = |option: &&DeclaredOption| {
            marks.iter().any(|(_, names)| names.iter().flatten().any(|name| name == option.name))
        };
        if let Some(option) = empty.iter().find(|option| !is_marked(option)) {
            return Err(with_cause(OptionError::Empty { option: option.name }));
        }
        for (mark, names) in marks {
            for name in names.into_iter().flatten() {
                let option = declared(&name).map_err(A::Error::custom)?;
                let entry = options.values_mut().find(|entry| entry.option.is(option));
                match (mark, entry) {
                    (EMPTY, None) => {
                        options.set_declared(option, &Json::String(String::new())).map_err(with_cause)?;
                    }
                    // It is set to what the map says; or it was an empty string that is as good as none.
                    (EMPTY, Some(_)) | (_, None) => {}
                    (_, Some(entry)) => {
                        entry.is_trusted = false;
                        entry.replaces_trusted |= mark == REPLACES_TRUSTED;
                    }
                }
            }
        }
        Ok(options)
    }
}

/// The error with its cause in the message: an error of a format keeps nothing else of it.
fn with_cause<E: serde::de::Error>(error: OptionError) -> E {
    match std::error::Error::source(&error) {
        Some(source) => E::custom(format_args!("{error}: {source}")),
        None => E::custom(error),
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
    #[error("no option is named `{name}`{}", hint(*.suggestion))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The declared name nearest to it.
        suggestion: Option<&'static str>,
    },
    /// The value is not one of the option's type.
    #[error("option `{option}` has an invalid value, {given}")]
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
    /// The value is an empty string, and the option is declared with `empty_is_unset`: only
    /// [untrusted code](Options::from_untrusted_json) leaves it unset so.
    #[error("option `{option}` is empty; leave it out, or give it a value")]
    Empty {
        /// The option.
        option: &'static str,
    },
    /// The option's type does not implement `serde::de::DeserializeOwned`.
    #[error("option `{option}` cannot be given as text; only native code can set it")]
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

/// The end of an error about the name of an option or a key that no crate declares.
pub(crate) fn hint(suggestion: Option<&'static str>) -> String {
    if suggestion.is_some() {
        return text::did_you_mean(suggestion);
    }
    "; is the crate that declares it linked? write `use that_crate as _;`".to_owned()
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
            name: text::excerpt(name, LONGEST_NAME),
            suggestion: text::nearest(name, link::options().iter().map(|listed| listed.option.name)),
        }),
    }
}

/// The longest name in an error, in bytes.
pub(crate) const LONGEST_NAME: usize = 100;

/// Whether `value` is the empty string, and `option` is declared with `empty_is_unset`.
fn is_as_good_as_unset(option: &DeclaredOption, value: &Json) -> bool {
    option.empty_is_unset && value.as_str() == Some("")
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
