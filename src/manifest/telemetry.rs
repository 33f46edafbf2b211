//! `[telemetry]`.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Uri};

use super::model::Otlp;
use super::reader::{Read, Table, Value};

/// Where traces are sent, if anywhere; and how that is written.
pub(super) fn otlp(document: &Table<'_>) -> Option<(Otlp, String)> {
    const EXAMPLE: &str = "\"http://127.0.0.1:4318\"";
    let table = document
        .optional("telemetry", |value| value.table("`[telemetry]`", "{ otlp = \"http://127.0.0.1:4318\" }"));
    let table = table.ok()??;
    table.only(&["otlp", "headers"]);
    if !cfg!(feature = "otlp") {
        let problem =
            document.reader.problem(table.span.clone(), "this build of the program sends no traces");
        document
            .reader
            .report(problem.with_help("take `[telemetry]` out, or build with the cargo feature `otlp`"));
        return None;
    }
    let endpoint = table.required("otlp", EXAMPLE).and_then(|value| endpoint(&value, EXAMPLE));
    let headers = table.or("headers", BTreeMap::new(), headers);
    let written = table.get("otlp").and_then(|value| value.text_as_written());
    let otlp = Otlp { endpoint: endpoint.ok()?, headers: headers.ok()? };
    Some((otlp, written.unwrap_or_default().to_owned()))
}

fn endpoint(value: &Value<'_>, example: &str) -> Read<String> {
    let text = value.text(example)?;
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    let Some(uri) = uri else {
        let problem = value.problem("`otlp` has to be a URL with `http` or `https`");
        return Err(value.reader.report(problem.with_help(format_args!("write `otlp = {example}`"))));
    };
    // The exporter refuses these, too, and by then the URL has been shown.
    if has_more_than_a_place(&text, &uri) {
        let problem = value.problem("`otlp` has a user, a password or a query in it, and none is sent");
        let help = format_args!("write `otlp = {example}`, and what is secret as one of the `headers`");
        return Err(value.reader.report(problem.with_help(help)));
    }
    Ok(text.into_owned())
}

/// Whether there is something in a URL that can be secret. A fragment is looked for in the text: no parsed one has any.
fn has_more_than_a_place(text: &str, uri: &Uri) -> bool {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    has_user || text.contains(['?', '#'])
}

/// Their values are tokens more often than not, so no problem shows one.
fn headers(value: &Value<'_>) -> Read<BTreeMap<String, String>> {
    let table = value.table("`headers`", "{ authorization = \"…\" }")?;
    let headers: Vec<_> = table
        .entries()
        .map(|(name, value)| {
            let is_name = name.text.parse::<HeaderName>().map(drop).map_err(|_| {
                let message = format_args!("{:?} is no name of a header", name.text);
                let problem = table.reader.problem(name.span.clone(), message);
                table.reader.report(problem.with_help("a name is of ASCII letters, digits and `-`"))
            });
            let text = value.text("\"…\"").and_then(|text| {
                let valid = text.parse::<HeaderValue>().map(|_| text.into_owned());
                valid.map_err(|_| {
                    let message =
                        format_args!("the header `{}` has a character that none can have", name.text);
                    let problem = value.problem(message);
                    table
                        .reader
                        .report(problem.with_help("values are of visible ASCII characters and spaces"))
                })
            });
            is_name?;
            Ok((name.text.to_owned(), text?))
        })
        .collect();
    headers.into_iter().collect()
}
