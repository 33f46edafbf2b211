//! What goes into a function and what comes out.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Path;

use crate::error::{CallError, ErrorKind, shorten_message};

/// What a function takes or gives: JSON, or bytes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// A JSON value.
    Json(Value),
    /// Bytes, of whatever form the function says.
    Bytes(Vec<u8>),
}

impl Payload {
    /// The JSON value, if it is one.
    pub fn as_json(&self) -> Option<&Value> {
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
        Self::Json(Value::Null)
    }
}

impl From<Value> for Payload {
    fn from(json: Value) -> Self {
        Self::Json(json)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// JSON of type `T`, as the argument of a function and as what it returns.
///
/// ```
/// use frame_dispatch::{CallContext, Functions, Json, Payload, Task};
/// use frame_registry::{App, Options};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let functions = Functions::new(App::builder().build());
/// functions.register("app:sum".parse()?, Options::new(), async |_: CallContext, Json(numbers): Json<Vec<u64>>| {
///     Json(numbers.iter().sum::<u64>())
/// })?;
///
/// let sum = functions.root().call(Task::new("app:sum".parse()?).with_payload(json!([1, 2, 3]))).await?;
/// assert_eq!(sum, Payload::from(json!(6)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

/// An argument that is parsed from a [`Payload`].
///
/// A function that takes a [`Payload`] parses it with the same implementation:
///
/// ```
/// use frame_dispatch::{CallContext, CallError, FromPayload, Json, Payload};
///
/// async fn relay(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
///     let Json(name) = Json::<String>::from_payload(payload)?;
///     ctx.call(frame_dispatch::Task::new(name.parse()?)).await
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the second argument of a function",
    label = "takes `{Self}` second",
    note = "write `Json(request): Json<T>`, `bytes: Vec<u8>`, or `payload: Payload`"
)]
pub trait FromPayload: Sized {
    /// Parses the payload.
    ///
    /// # Errors
    ///
    /// A [`CallError`] of the kind [`Invalid`](ErrorKind::Invalid) if the payload is not a valid `Self`.
    fn from_payload(payload: Payload) -> Result<Self, CallError>;
}

/// Moves out of the JSON value. The error says where in the JSON the mistake is.
impl<T: DeserializeOwned> FromPayload for Json<T> {
    fn from_payload(payload: Payload) -> Result<Self, CallError> {
        let Payload::Json(json) = payload else {
            return Err(CallError::invalid("invalid payload: expected JSON, found bytes; pass it as JSON"));
        };
        serde_path_to_error::deserialize(json).map(Self).map_err(|error| {
            let place = Place(error.path());
            CallError::invalid(shorten_message(&format!("invalid payload{place}: {}", error.inner())))
        })
    }
}

impl FromPayload for Vec<u8> {
    fn from_payload(payload: Payload) -> Result<Self, CallError> {
        match payload {
            Payload::Bytes(bytes) => Ok(bytes),
            Payload::Json(_) => {
                Err(CallError::invalid("invalid payload: expected bytes, found JSON; pass it as bytes"))
            }
        }
    }
}

/// A value that a function returns, as a [`Payload`].
#[diagnostic::on_unimplemented(
    message = "a function cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "return `Json<T>`, `Vec<u8>` or `()`",
    note = "to return a `Payload`, take a `Payload` and parse it with `Json::from_payload`"
)]
pub trait IntoPayload {
    /// Converts into a payload.
    ///
    /// # Errors
    ///
    /// A [`CallError`] of the kind [`Internal`](ErrorKind::Internal) if the value cannot be represented.
    fn into_payload(self) -> Result<Payload, CallError>;
}

/// The error says where in the value the mistake is: for example a map whose keys are not strings.
impl<T: Serialize> IntoPayload for Json<T> {
    fn into_payload(self) -> Result<Payload, CallError> {
        serde_json::to_value(&self.0).map(Payload::Json).map_err(|error| not_serialized(&self.0, &error))
    }
}

impl IntoPayload for Vec<u8> {
    fn into_payload(self) -> Result<Payload, CallError> {
        Ok(Payload::Bytes(self))
    }
}

/// JSON `null`.
impl IntoPayload for () {
    fn into_payload(self) -> Result<Payload, CallError> {
        Ok(Payload::default())
    }
}

/// Serializes again to find the path, so that a response that is valid does not pay for one.
#[cold]
fn not_serialized(value: &impl Serialize, error: &serde_json::Error) -> CallError {
    let tracked = serde_path_to_error::serialize(value, serde_json::value::Serializer);
    let place = tracked.err().map(|error| Place(error.path()).to_string()).unwrap_or_default();
    CallError::new(ErrorKind::Internal, format!("the response is not valid JSON{place}: {error}"))
}

/// Where in a value an error is. Empty for the value itself.
struct Place<'a>(&'a Path);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().len() == 0 { Ok(()) } else { write!(f, " at `{}`", self.0) }
    }
}
