//! Reads the settings of networks so that no error shows their values, and each names its setting.

mod error;

use std::fmt::{self, Display};

use frame_registry::text;
use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

pub use self::error::{SettingError, SettingErrors, SettingFault, SettingPath, SettingSegment};

/// Reads settings, without showing them in errors. A type says what it does not know with `deny_unknown_fields`, and
/// `synonyms` are as [`Driver::SYNONYMS`](crate::Driver::SYNONYMS).
///
/// An error that a type has about several of its fields, such as one of `#[serde(try_from = "…")]`, is taken to be about
/// the first field that its text names in backticks.
///
/// # Errors
///
/// Everything that can be found wrong at once; of more than 32 errors the first 32.
///
/// ```
/// use frame_net::{DirectConfig, read_settings};
/// use serde_json::{Map, json};
///
/// let settings: Map<_, _> = serde_json::from_value(json!({ "alow": [], "deny": ["nonsense:x"] }))?;
/// let errors = read_settings::<DirectConfig>(&settings, &[]).unwrap_err();
/// let paths: Vec<_> = errors.iter().map(|error| error.path().to_string()).collect();
/// assert_eq!(paths, ["alow", "deny[0]"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn read_settings<T: DeserializeOwned>(
    settings: &Map<String, Value>,
    synonyms: &[(&str, &str)],
) -> Result<T, SettingErrors> {
    let mut left = Value::Object(settings.clone());
    let mut errors: Vec<SettingError> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(Settings(left.clone())) {
            Ok(read) if errors.is_empty() => return Ok(read),
            Ok(_) => break,
            Err(error) => error,
        };
        let path = path(error.path());
        let error = place(error.into_inner(), path, &left, synonyms);
        let is_missing = matches!(error.fault(), SettingFault::Missing);
        // What an earlier error took out, or was meant to be, is not missing as well.
        let follows = is_missing && errors.iter().any(|earlier| explains(earlier, error.path()));
        // Without what is wrong, or has something missing in it, the rest can be read.
        let wrong = if is_missing { error.path().parent() } else { Some(error.path().clone()) };
        let is_removed = wrong.is_some_and(|wrong| remove(&mut left, &wrong));
        if !follows {
            errors.push(error);
        }
        if !is_removed || errors.len() >= MOST_ERRORS {
            break;
        }
    }
    Err(SettingErrors::new(errors))
}

/// How many errors are looked for: each takes reading all again.
const MOST_ERRORS: usize = 32;

/// A value whose deserializer has errors that say what kind of thing was found, and not what it was: it may be a
/// password in the wrong place.
pub(crate) struct Settings(pub(crate) Value);

fn path(path: &serde_path_to_error::Path) -> SettingPath {
    use serde_path_to_error::Segment;

    let known = path.iter().take_while(|segment| !matches!(segment, Segment::Unknown));
    known.fold(SettingPath::new(), |path, segment| match segment {
        Segment::Map { key } => path.key(key.as_str()),
        Segment::Seq { index } => path.index(*index),
        Segment::Enum { .. } | Segment::Unknown => path,
    })
}

/// The error of a type, at the setting that it is about. `path` is how far the type came.
fn place(
    error: SettingsError,
    path: SettingPath,
    settings: &Value,
    synonyms: &[(&str, &str)],
) -> SettingError {
    let members = at(settings, &path).and_then(Value::as_object);
    match error {
        SettingsError::Unknown { name, known } => {
            let is_member = members.is_some_and(|members| members.contains_key(&name));
            let path = if is_member { path.key(name.as_str()) } else { path };
            let meant = meant(&name, known, synonyms).map(str::to_owned);
            let known = known.iter().map(|&name| name.to_owned()).collect();
            SettingError::with_fault(path, SettingFault::Unknown { known, meant })
        }
        SettingsError::Missing { name } => SettingError::with_fault(path.key(name), SettingFault::Missing),
        SettingsError::Other(message) => {
            let named = message.split('`').skip(1).step_by(2);
            let named =
                members.and_then(|members| named.into_iter().find(|&name| members.contains_key(name)));
            let path = match named {
                Some(name) => path.key(name),
                None => path,
            };
            SettingError::new(path, message)
        }
    }
}

/// The setting that was most likely meant by the unknown `name`.
fn meant<'a>(name: &str, known: &[&'a str], synonyms: &[(&str, &'a str)]) -> Option<&'a str> {
    // `credentials.password` is one if `credentials` is known here.
    let is_known = |setting: &str| setting.split('.').next().is_some_and(|first| known.contains(&first));
    let is_same = |other: &str| letters(other).eq(letters(name));
    let synonym = synonyms.iter().find(|(other, setting)| is_same(other) && is_known(setting));
    synonym.map(|&(_, setting)| setting).or_else(|| text::nearest(name, known.iter().copied()))
}

/// A name without its case and what separates its words.
fn letters(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|letter| !"-_ ".contains(*letter)).map(|letter| letter.to_ascii_lowercase())
}

/// Whether `missing` is missing because of what this error is about.
fn explains(error: &SettingError, missing: &SettingPath) -> bool {
    let is_meant = match error.fault() {
        SettingFault::Unknown { meant: Some(meant), .. } => {
            let meant = meant.split('.').next().unwrap_or_default();
            error.path().parent().map(|parent| parent.key(meant)).as_ref() == Some(missing)
        }
        _ => false,
    };
    is_meant || error.path().segments().starts_with(missing.segments())
}

/// What is at a path.
fn at<'a>(settings: &'a Value, path: &SettingPath) -> Option<&'a Value> {
    path.segments().iter().try_fold(settings, |value, segment| match segment {
        SettingSegment::Key(key) => value.get(&**key),
        SettingSegment::Index(index) => value.get(index),
    })
}

/// Takes a setting out; an element with the list that it is in, as others would take its place.
fn remove(settings: &mut Value, path: &SettingPath) -> bool {
    let Some((last, parents)) = path.segments().split_last() else { return false };
    let mut value = settings;
    for (place, segment) in parents.iter().enumerate() {
        let is_list_of_last = place + 1 == parents.len() && matches!(last, SettingSegment::Index(_));
        let next = match segment {
            SettingSegment::Key(key) if is_list_of_last => {
                return value.as_object_mut().is_some_and(|members| members.remove(&**key).is_some());
            }
            SettingSegment::Key(key) => value.get_mut(&**key),
            SettingSegment::Index(index) => value.get_mut(index),
        };
        let Some(next) = next else { return false };
        value = next;
    }
    let SettingSegment::Key(key) = last else { return false };
    value.as_object_mut().is_some_and(|members| members.remove(&**key).is_some())
}

/// Reads a part of settings, whatever it is a part of.
pub(crate) fn nested<'de, T: de::Deserialize<'de>, E: de::Error>(value: Value) -> Result<T, E> {
    T::deserialize(Settings(value)).map_err(|error| match error {
        SettingsError::Unknown { name, known } => E::unknown_field(&name, known),
        SettingsError::Missing { name } => E::missing_field(name),
        SettingsError::Other(message) => E::custom(message),
    })
}

/// What is wrong with settings, without showing them.
#[derive(Debug)]
pub(crate) enum SettingsError {
    /// A field that the type does not have.
    Unknown { name: String, known: &'static [&'static str] },
    /// A field that has to be there.
    Missing { name: &'static str },
    /// Anything else.
    Other(String),
}

impl Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, .. } => write!(f, "unknown field `{name}`"),
            Self::Missing { name } => write!(f, "missing field `{name}`"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for SettingsError {}

impl de::Error for SettingsError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::Unknown { name: name.to_owned(), known }
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing { name }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Other(format!("expected {}, found {}", in_words(expected), kind(found)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Other(format!("expected {}", in_words(expected)))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        let known: Vec<_> = known.iter().map(|variant| format!("`{variant}`")).collect();
        Self::Other(format!("expected one of {}", known.join(", ")))
    }
}

/// What a type expects, without the words of Rust that serde has for it.
fn in_words(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    let whole = |least: i64, most: u64| format!("a whole number from {least} to {most}");
    match expected.as_str() {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => "a whole number of at least 0".to_owned(),
        "a nonzero u8" => whole(1, u8::MAX.into()),
        "a nonzero u16" => whole(1, u16::MAX.into()),
        "a nonzero u32" => whole(1, u32::MAX.into()),
        "a nonzero u64" | "a nonzero usize" => "a whole number of at least 1".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        named if named.starts_with("struct ") => "an object".to_owned(),
        _ => expected,
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "an object",
        _ => "something else",
    }
}

impl IntoDeserializer<'_, SettingsError> for Settings {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Settings {
    type Error = SettingsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is) => visitor.visit_bool(is),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(values) => {
                let mut values = SeqDeserializer::new(values.into_iter().map(Settings));
                let visited = visitor.visit_seq(&mut values)?;
                values.end()?;
                Ok(visited)
            }
            Value::Object(members) => {
                let mut members =
                    MapDeserializer::new(members.into_iter().map(|(key, value)| (key, Settings(value))));
                let visited = visitor.visit_map(&mut members)?;
                members.end()?;
                Ok(visited)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            Value::Object(members) if members.len() == 1 => {
                let members = members.into_iter().map(|(key, value)| (key, Settings(value)));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(members)))
            }
            value => {
                let found = if value.is_object() { Unexpected::Map } else { Unexpected::Other("") };
                Err(de::Error::invalid_type(found, &"a string, or an object with one member"))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
