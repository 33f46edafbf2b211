//! Text of guests and of other parties, as logs and terminals show it.
//!
//! Such text may hold characters that a terminal obeys, or that make a line look like another: control characters, line
//! and paragraph separators, and format characters such as U+202E, which reverses what follows. None of them is printed as
//! it is. That includes the joiner in some emoji, which are shown as the emoji that they are made of.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Returns whether a character is shown as itself: it is not a control or format character, nor a line or paragraph
/// separator.
///
/// ```
/// use frame_dispatch::printable::is_printable;
///
/// assert!(['a', ' ', 'ä', '世'].into_iter().all(is_printable));
/// assert!(!['\n', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}'].into_iter().any(is_printable));
/// ```
pub fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    !matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// Escapes the characters of a text that are not [printable](is_printable) as Rust does, but for tabs.
///
/// ```
/// use frame_dispatch::printable::escape;
///
/// assert_eq!(escape("one\ntwo\t\u{202e}eerht"), "one\\ntwo\t\\u{202e}eerht");
/// ```
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_kept = |character| character == '\t' || is_printable(character);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_kept(character) {
            escaped.push(character);
        } else {
            escaped.extend(character.escape_default());
        }
    }
    Cow::Owned(escaped)
}

/// Escapes what JSON leaves as it is and is not [printable](is_printable), as JSON does: all such characters but the
/// control characters of ASCII before the space.
///
/// The text is the same JSON as before.
///
/// ```
/// use frame_dispatch::printable::escape_json;
///
/// assert_eq!(escape_json("[\"\u{202e}\", \"\u{e0001}\"]"), r#"["\u202e", "\udb40\udc01"]"#);
/// ```
pub fn escape_json(text: &str) -> Cow<'_, str> {
    let is_kept = |character| character < ' ' || is_printable(character);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_kept(character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(escaped)
}

/// Text of a guest on one line: what is not printable is escaped, and what is after `longest` bytes is cut.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let kept = &text[..text.floor_char_boundary(longest)];
    let mut printable = escape(kept).into_owned();
    if kept.len() < text.len() {
        printable.push('…');
    }
    printable
}

/// Cuts text of a guest or a caller, which may be as long as memory allows, to what is kept of it.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 4096;
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_that_reorders_hides_or_ends_text_is_printable() {
        let format = ['\u{ad}', '\u{61c}', '\u{200b}', '\u{200d}', '\u{feff}', '\u{110bd}', '\u{e0041}'];
        let bidirectional =
            ('\u{200e}'..='\u{200f}').chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let separators = ['\u{2028}', '\u{2029}'];
        let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
        for character in bidirectional.chain(controls).chain(format).chain(separators) {
            assert!(!is_printable(character), "{character:?}");
            assert!(escape(&character.to_string()).chars().all(|it| it == '\t' || is_printable(it)));
        }
    }

    #[test]
    fn text_of_all_scripts_stays_as_it_is() {
        for text in ["plain text", "ä ß é", "日本語", "العربية", "हिन्दी", "e\u{301}", "🙂", "tab\there"]
        {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(escape_json(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn long_text_is_cut_before_it_is_escaped() {
        assert_eq!(printable("\u{202e}\u{202e}abc", 6), "\\u{202e}\\u{202e}…");
        assert_eq!(printable("\u{202e}\u{202e}abc", 5), "\\u{202e}…");
    }
}
