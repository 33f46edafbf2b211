//! What came of a call, as it is printed.

use std::io;

use data_encoding::BASE64;
use frame_dispatch::{CallError, ErrorKind, FunctionId, Payload};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::CallFormat;
use crate::command::Failure;
use crate::exit::Exit;
use crate::report;

/// Prints the result of a call.
pub(super) fn print(result: &Payload, format: CallFormat) -> io::Result<()> {
    match (format, result) {
        (CallFormat::Raw, Payload::Bytes(bytes)) => report::print_bytes(bytes),
        (CallFormat::Raw, Payload::Json(Json::String(text))) => {
            report::print_bytes(format!("{text}\n").as_bytes())
        }
        (CallFormat::Json | CallFormat::Raw, result) => report::print(&as_json(result)),
        (CallFormat::Pretty, result) => report::print(&format_args!("{:#}", as_json(result))),
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
    #[serde(skip)]
    exit: Exit,
    kind: &'static str,
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

impl From<&CallError> for Failed {
    fn from(error: &CallError) -> Self {
        Self {
            exit: error.kind().into(),
            kind: error.kind().as_str(),
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
            exit: Exit::NotFound,
            kind: ErrorKind::NotFound.as_str(),
            message: format!("no function has this id; {hint}"),
            causes: Vec::new(),
            function: Some(function.to_string()),
            retryable: false,
            retry_after: None,
        }
    }

    /// The same for the program, to end with.
    pub(super) fn into_failure(self, format: CallFormat) -> Failure {
        match format {
            CallFormat::Json => Failure::with_report(self.exit, json!({ "error": self }).to_string()),
            CallFormat::Pretty | CallFormat::Raw => Failure::with_details(self.exit, &self.lines()),
        }
    }

    /// The failure, and what there is to say of it.
    fn lines(&self) -> Vec<String> {
        let of =
            self.function.as_ref().map_or_else(String::new, |function| format!("call of `{function}`: "));
        let mut lines = vec![format!("{}: {of}{}", self.kind, self.message)];
        // Many headlines, and many causes, end in the text of what caused them.
        let mut last = self.message.as_str();
        for cause in &self.causes {
            if last.contains(cause.as_str()) {
                continue;
            }
            last = cause;
            lines.push(format!("because: {cause}"));
        }
        match self.retry_after {
            Some(time) => lines.push(format!("the same call may succeed in {time} s")),
            None if self.retryable => lines.push("the same call may succeed later".to_owned()),
            None => (),
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_shown_is_not_shown_again() {
        let failed = |message: &str, causes: &[&str]| Failed {
            exit: Exit::Unavailable,
            kind: "unavailable",
            message: message.to_owned(),
            causes: causes.iter().map(|&cause| cause.to_owned()).collect(),
            function: None,
            retryable: false,
            retry_after: None,
        };
        assert_eq!(
            failed("no connection to h:1", &["no connection to h:1", "connecting to h:1 failed", "refused"])
                .lines(),
            ["unavailable: no connection to h:1", "because: connecting to h:1 failed", "because: refused"]
        );
        assert_eq!(
            failed("no connection to h:1: full", &["no connection to h:1", "full"]).lines(),
            ["unavailable: no connection to h:1: full"]
        );
        assert_eq!(
            failed("a", &["b: c", "c", "d"]).lines(),
            ["unavailable: a", "because: b: c", "because: d"]
        );
    }
}
