//! `${NAME}` in the strings of a manifest.

use std::borrow::Cow;
use std::env::{self, VarError};

/// Where variables are replaced. Elsewhere they are refused, but in what is for scripts.
pub(crate) const SECTIONS: &str = "`[clearnet]`, `[networks]`, `[http]`, `[secrets]` and `[telemetry]`";

/// Whether variables are replaced in a section.
pub(crate) fn are_replaced_in(section: &str) -> bool {
    SECTIONS.contains(&format!("`[{section}]`"))
}

/// Why a string with variables has no value. None of these shows one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VariableError {
    #[error("the environment variable `{0}` is not set")]
    NotSet(String),
    #[error("the environment variable `{0}` is empty")]
    Empty(String),
    #[error("the environment variable `{0}` is not UTF-8")]
    NotUnicode(String),
    #[error("`${{` is not followed by the name of an environment variable and `}}`")]
    NotAName,
}

impl VariableError {
    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::NotSet(_) | Self::Empty(_) => "set it, or write the value here",
            Self::NotUnicode(_) => "set it to text in UTF-8",
            Self::NotAName => {
                "write `${NAME}`, where a name is of letters, digits and `_`; a default is not supported; for the \
                 text `${`, write `$${`"
            }
        }
    }
}

/// A part of a string.
enum TextPart<'a> {
    Text(&'a str),
    Variable(&'a str),
    /// A `${` that no name follows.
    Broken,
}

/// The parts of a string, one after the other. `$${` is the text `${`, and any other `$` is itself.
fn parts(text: &str) -> impl Iterator<Item = TextPart<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else { return Some(TextPart::Text(std::mem::take(&mut rest))) };
        if at > 0 {
            let is_escaped = rest[..at].ends_with('$');
            let (before, from) = rest.split_at(at);
            if !is_escaped {
                rest = from;
                return Some(TextPart::Text(before));
            }
            // The `$` before it is not part of the text, the `{` is.
            let text = &rest[..at];
            rest = &from["$".len()..];
            return Some(TextPart::Text(text));
        }
        let inside = &rest["${".len()..];
        // No further than the name goes: what follows is read once, however many `${` there are.
        let length = inside.bytes().take_while(|&byte| is_in_name(byte)).count();
        let name = &inside[..length];
        if !is_name(name) || !inside[length..].starts_with('}') {
            rest = inside;
            return Some(TextPart::Broken);
        }
        rest = &inside[name.len() + "}".len()..];
        Some(TextPart::Variable(name))
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_in_name)
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The string with the values of its variables. A variable that is empty is refused as one that is not set: it stands
/// where something has to be.
pub(crate) fn resolve(text: &str) -> Result<Cow<'_, str>, VariableError> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut resolved = String::new();
    for part in parts(text) {
        match part {
            TextPart::Text(text) => resolved.push_str(text),
            TextPart::Variable(name) => resolved.push_str(&value(name)?),
            TextPart::Broken => return Err(VariableError::NotAName),
        }
    }
    Ok(Cow::Owned(resolved))
}

fn value(name: &str) -> Result<String, VariableError> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Err(VariableError::Empty(name.to_owned())),
        Ok(value) => Ok(value),
        Err(VarError::NotPresent) => Err(VariableError::NotSet(name.to_owned())),
        Err(VarError::NotUnicode(_)) => Err(VariableError::NotUnicode(name.to_owned())),
    }
}

/// The names of the variables in a string.
pub(crate) fn names(text: &str) -> Vec<String> {
    let names = parts(text).filter_map(|part| match part {
        TextPart::Variable(name) => Some(name.to_owned()),
        TextPart::Text(_) | TextPart::Broken => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_wherever_they_are() {
        // A variable that is set wherever tests run.
        let path = env::var("PATH").unwrap();
        assert_eq!(resolve("a ${PATH}:${PATH} b").unwrap(), format!("a {path}:{path} b"));
        assert_eq!(names("a ${PATH}:${HOME} $${NOT}"), ["PATH", "HOME"]);
    }

    #[test]
    fn a_dollar_is_itself_unless_a_brace_follows() {
        for text in ["", "$", "$$", "pa$$word$", "$PATH", "{PATH}", "a$b{c}"] {
            assert_eq!(resolve(text).unwrap(), text);
        }
        assert_eq!(resolve("$${PATH}").unwrap(), "${PATH}");
        assert_eq!(resolve("$${").unwrap(), "${");
        assert_eq!(resolve("a$$${PATH}").unwrap(), "a$${PATH}");
    }

    #[test]
    fn text_after_a_broken_variable_is_not_read_for_each() {
        let text = "${".repeat(1 << 19);
        assert_eq!(names(&text), Vec::<String>::new());
        assert_eq!(names(&format!("{text}${{PATH}}")), ["PATH"]);
    }

    #[test]
    fn what_has_no_value_is_refused() {
        let not_set = Err(VariableError::NotSet("NOT_SET_ANYWHERE".to_owned()));
        assert_eq!(resolve("h:${NOT_SET_ANYWHERE}"), not_set);
        for text in ["${", "${}", "${PATH", "${1A}", "${PATH:-x}", "${PATH }", "a${${PATH}}", "${ü}"] {
            assert_eq!(resolve(text), Err(VariableError::NotAName), "{text}");
        }
    }
}
