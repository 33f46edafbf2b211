//! Credentials as they are written in a configuration.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::secret::Secret;

/// A user name and a password, for a proxy to check.
pub(crate) struct GivenCredentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

impl<'de> Deserialize<'de> for GivenCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CredentialsVisitor)
    }
}

/// Derived code would quote a string that stands where the object belongs: most likely `user:password`.
struct CredentialsVisitor;

impl<'de> Visitor<'de> for CredentialsVisitor {
    type Value = GivenCredentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `username` and `password`")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<GivenCredentials, E> {
        Err(E::custom("credentials are an object with `username` and `password`, not a string"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GivenCredentials, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            username: String,
            password: Secret,
        }

        let Given { username, password } = Given::deserialize(MapAccessDeserializer::new(map))?;
        Ok(GivenCredentials { username, password })
    }
}
