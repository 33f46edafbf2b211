//! What goes into a function and what comes out.

use serde_json::Value as Json;

/// What a function takes or gives: JSON, or bytes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// A JSON value.
    Json(Json),
    /// Bytes, of whatever form the function says.
    Bytes(Vec<u8>),
}

impl Payload {
    /// The JSON value, if it is one.
    pub fn as_json(&self) -> Option<&Json> {
        match self {
            Self::Json(json) => Some(json),
            Self::Bytes(_) => None,
        }
    }

    /// The bytes, if it is bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Json(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

impl Default for Payload {
    /// JSON `null`.
    fn default() -> Self {
        Self::Json(Json::Null)
    }
}

impl From<Json> for Payload {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}
