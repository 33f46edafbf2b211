//! Options as they are given on the command line.

use std::str::FromStr;

use frame_registry::{OptionError, Options};
use serde_json::Value as Json;

use crate::command::Failure;
use crate::report;

/// `NAME=VALUE`: an option that is declared, and a value that it takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GivenOption {
    name: String,
    value: Json,
}

impl FromStr for GivenOption {
    type Err = String;

    /// The value is read as JSON if it is JSON, and otherwise taken for a text.
    fn from_str(given: &str) -> Result<Self, String> {
        let Some((name, text)) = given.split_once('=') else {
            return Err("an option is NAME=VALUE, such as `network=app:tor`".to_owned());
        };
        let text_value = || Json::String(text.to_owned());
        let read = serde_json::from_str(text);
        let value = read.as_ref().map_or_else(|_| text_value(), Json::clone);
        let Err(refused) = try_set(name, &value) else { return Ok(Self { name: name.to_owned(), value }) };
        let mut message = report::chain(&refused);
        match read {
            // What was meant for JSON was taken for a text.
            Err(error) if text.starts_with(['{', '[', '"']) => {
                message = format!("{message}; nor is it JSON: {error}");
            }
            // What was meant for a text was taken for JSON.
            Ok(Json::Number(_) | Json::Bool(_) | Json::Null) if try_set(name, &text_value()).is_ok() => {
                message = format!("{message}; for a text write `{name}=\"{text}\"`, with the quotes");
            }
            _ => (),
        }
        Err(message)
    }
}

fn try_set(name: &str, value: &Json) -> Result<(), OptionError> {
    Options::new().set_json(name, value)
}

/// The options of a call.
pub(super) fn options(given: &[GivenOption]) -> Result<Options, Failure> {
    let mut options = Options::new();
    for (index, option) in given.iter().enumerate() {
        if given[..index].iter().any(|before| before.name == option.name) {
            return Err(Failure::usage(format_args!(
                "option `{}` is given twice; leave one out",
                option.name
            )));
        }
        options.set_json(&option.name, &option.value)?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Json, String> {
        text.parse::<GivenOption>().map(|given| given.value)
    }

    #[test]
    fn a_value_is_json_or_else_a_text() {
        assert_eq!(parse("timeout=2s"), Ok(json!("2s")));
        assert_eq!(parse("retry=3"), Ok(json!(3)));
        assert_eq!(parse("retry={\"attempts\":3}"), Ok(json!({ "attempts": 3 })));
        assert_eq!(parse("network=app:tor"), Ok(json!("app:tor")));
        assert_eq!(parse("network=\"app:tor\""), Ok(json!("app:tor")));
        assert_eq!(parse("isolation=a=b"), Ok(json!("a=b")), "only the first sign divides");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let error = |text| parse(text).unwrap_err();
        assert!(error("network").contains("NAME=VALUE"));
        // As from a variable of the shell that is not set.
        for given in ["network=", "network=\"\"", "isolation=", "fs_root="] {
            let error = error(given);
            assert!(error.ends_with("is empty; leave it out, or give it a value"), "{error}");
        }
        assert_eq!(error("netwrok=app:tor"), "no option is named `netwrok`; did you mean `network`?");
        let unclosed = error("retry={\"attempts\":3");
        assert!(unclosed.contains("`retry`") && unclosed.contains("nor is it JSON: EOF"), "{unclosed}");
        let number = error("isolation=7");
        assert!(number.contains("`isolation=\"7\"`"), "{number}");
        assert_eq!(parse("isolation=\"7\""), Ok(json!("7")));
    }

    #[test]
    fn an_option_that_is_given_twice_is_refused() {
        let given: Vec<GivenOption> =
            ["retry=3", "timeout=2s", "retry=4"].map(|text| text.parse().unwrap()).into();
        assert_eq!(options(&given[..2]).unwrap().len(), 2);
        assert_eq!(options(&given).unwrap_err().exit(), crate::exit::Exit::Usage);
    }
}
