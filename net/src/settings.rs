//! Settings read so that no error shows them, and each says which of them it is about.

use std::fmt::{self, Display};

use frame_registry::nearest;
use serde::de::DeserializeOwned;
use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::setting::{SettingError, SettingErrors, SettingFault, SettingPath, SettingSegment};

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
    synonym.map(|&(_, setting)| setting).or_else(|| nearest(name, known.iter().copied()))
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
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::sync::Arc;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::config::NetworkConfig;
    use crate::direct::Direct;
    use crate::driver::ConfigError;
    use crate::error::NetworkError;
    use crate::registry::NetworkRegistry;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct All {
        text: String,
        number: u16,
        signed: i64,
        fraction: f64,
        is: bool,
        list: Vec<Option<u8>>,
        pair: (u8, char),
        map: BTreeMap<String, Newtype>,
        #[serde(default)]
        absent: Option<u8>,
        address: IpAddr,
        plain: Choice,
        with_value: Choice,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Newtype(u8);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        Plain,
        With(u8),
        Members { a: u8 },
    }

    fn all() -> Value {
        json!({
            "text": "t", "number": 7, "signed": -7, "fraction": 0.5, "is": true, "list": [1, null], "pair": [1, "c"],
            "map": { "k": 3 }, "address": "::1", "plain": "plain", "with_value": { "members": { "a": 4 } },
        })
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let expected: All = serde_json::from_value(all()).unwrap();
        assert_eq!(All::deserialize(Settings(all())).unwrap(), expected);
        let with = json!({ "with": 5 });
        assert_eq!(Choice::deserialize(Settings(with)).unwrap(), Choice::With(5));
    }

    #[test]
    fn refuses_what_serde_json_refuses_and_does_not_show_it() {
        let wrong =
            [json!("31337"), json!(31337), json!(-31337.5), json!(["31337"]), json!({ "31337": 31337 })];
        let members: Vec<String> = all().as_object().unwrap().keys().cloned().collect();
        for member in members {
            for value in wrong.iter().chain(&[json!(true), json!(null)]) {
                let mut settings = all();
                settings[&member] = value.clone();
                let read = All::deserialize(Settings(settings.clone()));
                assert_eq!(
                    read.is_ok(),
                    serde_json::from_value::<All>(settings).is_ok(),
                    "{member}: {value}"
                );
                // The name of a member is no secret.
                if let (Err(error), false) = (read, value.is_object()) {
                    assert!(!error.to_string().contains("31337"), "{member}: {error}");
                }
            }
        }
    }

    #[test]
    fn what_is_expected_is_said_without_names_of_types() {
        let wrong = |member: &str, value: Value| {
            let mut settings = all();
            settings[member] = value;
            All::deserialize(Settings(settings)).unwrap_err().to_string()
        };
        assert_eq!(wrong("number", json!("7")), "expected a whole number from 0 to 65535, found a string");
        assert_eq!(wrong("number", json!(65536)), "expected a whole number from 0 to 65535");
        assert_eq!(wrong("fraction", json!("7")), "expected a number, found a string");
        assert_eq!(wrong("list", json!("7")), "expected a list, found a string");
        let nonzero = std::num::NonZero::<u16>::deserialize(Settings(json!(0))).unwrap_err();
        assert_eq!(nonzero.to_string(), "expected a whole number from 1 to 65535");
    }

    /// What is wrong with the settings of a network, in order.
    fn wrong(config: Value) -> Vec<String> {
        let networks = NetworkRegistry::new(Arc::new(Direct::default()));
        let config: NetworkConfig = serde_json::from_value(config).unwrap();
        let error = networks.create("app:tor".parse().unwrap(), &config).unwrap_err();
        let NetworkError::Config { source: ConfigError::Invalid { source, .. }, .. } = &error else {
            panic!("{error:?}")
        };
        source.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_wrong_is_said_at_once_of_the_setting_that_it_is_about() {
        let errors = wrong(json!({
            "kind": "socks5", "adress": "h:1", "proxy": "h", "credentials": { "user": "u", "password": 5 },
            "via": "tor", "isolate": "yes", "deadline": 5,
        }));
        assert_eq!(
            errors,
            [
                "unknown key `adress`; available keys: `proxy`, `credentials`, `isolate`, `via`, `allow`, `deny`, `default`, `deadline`",
                "`credentials.password`: a secret is a string, or `env` with the name of an environment variable",
                "unknown key `credentials.user`; did you mean `username`?",
                r#"`deadline`: a duration is a string with its unit; write "5s", "500ms" or "1m30s""#,
                "`isolate`: expected a boolean, found a string",
                "`proxy`: the port is missing; write `host:port`, such as `127.0.0.1:9050`",
                r#"`via`: network id "tor" has no namespace; write `namespace:name`, such as `app:tor`"#,
            ]
        );
    }

    #[test]
    fn what_another_program_calls_it_is_known() {
        let meant = |kind: &str, key: &str| {
            let mut config = json!({ "kind": kind });
            config[key] = json!("31337");
            wrong(config)
        };
        assert_eq!(meant("socks5", "address"), ["unknown key `address`; did you mean `proxy`?"]);
        assert_eq!(meant("socks5", "Server")[0], "unknown key `Server`; did you mean `proxy`?");
        assert_eq!(
            meant("socks5", "password"),
            ["unknown key `password`; did you mean `credentials.password`?", "missing key `proxy`"]
        );
        assert_eq!(meant("direct", "deadline_ms"), ["unknown key `deadline_ms`; did you mean `deadline`?"]);
        assert_eq!(meant("i2p", "bridge"), ["unknown key `bridge`; did you mean `sam`?"]);
        assert_eq!(meant("wireguard", "AllowedIPs")[0], "unknown key `AllowedIPs`; did you mean `peers`?");
    }

    #[test]
    fn an_error_about_several_settings_is_at_the_first_that_it_names() {
        let credentials = json!({ "username": "u", "password": "p" });
        let errors =
            wrong(json!({ "kind": "socks5", "proxy": "h:1", "isolate": true, "credentials": credentials }));
        assert!(errors[0].starts_with("`isolate` needs credentials of its own"), "{errors:?}");
        let errors = wrong(json!({ "kind": "i2p", "sam": "h:1", "password": "31337" }));
        assert!(errors[0].starts_with("`user` and `password` belong together"), "{errors:?}");
        let errors = wrong(json!({ "kind": "i2p", "sam": "h:1", "destination": { "key": "31337" } }));
        assert_eq!(errors, ["unknown key `destination.key`; did you mean `private_key`?"]);
    }
}
