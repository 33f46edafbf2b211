//! What came of a call, as it is printed.

use std::fmt::Write as _;
use std::io;

use data_encoding::BASE64;
use frame_dispatch::{CallError, ErrorKind, FunctionId, Payload};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::CallFormat;
use crate::command::Failure;
use crate::report;

/// Prints the result of a call.
pub(super) fn print(result: &Payload, format: CallFormat) -> io::Result<()> {
    match (format, result) {
        (CallFormat::Raw, Payload::Bytes(bytes)) => report::print_bytes(bytes),
        (CallFormat::Raw, Payload::Json(Json::String(text))) => {
            report::print_bytes(format!("{text}\n").as_bytes())
        }
        (CallFormat::Json | CallFormat::Raw, result) => report::print(&as_json(result)),
        (CallFormat::Pretty, result) => report::print(&report::printable(&format!("{:#}", as_json(result)))),
    }
}

/// A result as JSON, which has no bytes.
fn as_json(result: &Payload) -> Json {
    match result {
        Payload::Json(json) => json.clone(),
        Payload::Bytes(bytes) => json!({ "base64": BASE64.encode(bytes) }),
        // There is no other.
        _ => Json::Null,
    }
}

/// A call that failed.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    #[serde(serialize_with = "as_text")]
    kind: ErrorKind,
    /// What went wrong, without what caused it.
    message: String,
    /// What caused it, the nearest first.
    causes: Vec<String>,
    /// The function that failed: the innermost, where one calls another.
    function: Option<String>,
    /// Whether the same call may succeed later.
    retryable: bool,
    /// The time before which it cannot, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<f64>,
}

fn as_text<S: serde::Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

impl From<&CallError> for Failed {
    fn from(error: &CallError) -> Self {
        Self {
            kind: error.kind(),
            message: error.message().to_owned(),
            causes: report::causes(error).map(ToString::to_string).collect(),
            function: error.function().map(ToString::to_string),
            retryable: error.is_retryable(),
            retry_after: error.retry_after().map(|time| time.as_secs_f64()),
        }
    }
}

impl Failed {
    /// A function that there is none of, and what there is instead.
    pub(super) fn not_found(function: &FunctionId, hint: &str) -> Self {
        Self {
            kind: ErrorKind::NotFound,
            message: format!("no function has this id; {hint}"),
            causes: Vec::new(),
            function: Some(function.to_string()),
            retryable: false,
            retry_after: None,
        }
    }

    /// The same for the program, to end with.
    pub(super) fn into_failure(self, format: CallFormat) -> Failure {
        let exit = self.kind.into();
        match format {
            CallFormat::Json => Failure::with_report(exit, json!({ "error": self }).to_string()),
            CallFormat::Pretty | CallFormat::Raw => Failure::new(exit, self.lines()),
        }
    }

    fn lines(&self) -> String {
        let mut lines = format!("{}: ", self.kind);
        if let Some(function) = &self.function {
            lines += &format!("call of `{function}`: ");
        }
        lines += &self.message;
        for cause in &self.causes {
            // Writing to a string cannot fail.
            let _ = write!(lines, "\n  because: {cause}");
        }
        match self.retry_after {
            Some(time) => {
                let _ = write!(lines, "\n  the same call may succeed in {time} s");
            }
            None if self.retryable => lines += "\n  the same call may succeed later",
            None => (),
        }
        lines
    }
}
