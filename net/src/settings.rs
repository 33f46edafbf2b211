//! Settings read so that no error shows them.

use std::fmt::{self, Display};

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// A value whose deserializer has errors that say what kind of thing was found, and not what it was: it may be a
/// password in the wrong place.
pub(crate) struct Settings(pub(crate) Value);

/// What is wrong with settings, without showing them.
#[derive(Debug)]
pub(crate) struct SettingsError(String);

impl Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl de::Error for SettingsError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("invalid type: {}, expected {expected}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("invalid value: {}, expected {expected}", kind(found)))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        let known: Vec<_> = known.iter().map(|variant| format!("`{variant}`")).collect();
        Self(format!("unknown variant, expected one of {}", known.join(", ")))
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

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

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
}
