//! Text of other parties in errors, logs and on terminals: escaped, shortened, and with the name that was meant.
//!
//! Scripts, peers and files choose such text. It may be as long as they like. It may hold characters that a terminal obeys, or
//! that make a line look like another: control characters, line and paragraph separators, and format characters such as
//! U+202E, which reverses what follows. [`escape`] leaves none of them. That includes the joiner in some emoji, which are shown
//! as the emoji that they are made of.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Returns whether a character is shown as itself: it is not a control or format character, nor a line or paragraph
/// separator.
///
/// ```
/// use frame_registry::text::is_printable;
///
/// assert!(['a', ' ', 'ä', '世'].into_iter().all(is_printable));
/// assert!(!['\n', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}'].into_iter().any(is_printable));
/// ```
#[must_use]
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

/// Escapes the characters of a text that are not [printable](is_printable) as Rust does. Tabs stay.
///
/// ```
/// use frame_registry::text::escape;
///
/// assert_eq!(escape("one\ntwo\t\u{202e}eerht"), "one\\ntwo\t\\u{202e}eerht");
/// ```
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_unless(
        text,
        |character| character == '\t' || is_printable(character),
        |escaped, character| escaped.extend(character.escape_default()),
    )
}

/// Escapes in a text of JSON what is not [printable](is_printable) and JSON allows unescaped. The result is the same JSON.
///
/// The control characters of ASCII before the space stay: outside of strings JSON allows some, and within none.
///
/// ```
/// use frame_registry::text::escape_json;
///
/// assert_eq!(escape_json("[\"\u{202e}\", \"\u{e0001}\"]"), r#"["\u202e", "\udb40\udc01"]"#);
/// ```
#[must_use]
pub fn escape_json(text: &str) -> Cow<'_, str> {
    escape_unless(
        text,
        |character| character < ' ' || is_printable(character),
        |escaped, character| {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        },
    )
}

fn escape_unless(
    text: &str,
    is_kept: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if text.chars().all(&is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_kept(character) {
            escaped.push(character);
        } else {
            escape(&mut escaped, character);
        }
    }
    Cow::Owned(escaped)
}

/// Cuts a text that is longer than `max` bytes, and marks that with `…`. The mark comes on top of the `max` bytes.
///
/// ```
/// use frame_registry::text::shorten;
///
/// assert_eq!(shorten("short", 5), "short");
/// assert_eq!(shorten("größer", 3), "gr…");
/// ```
#[must_use]
pub fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    // `str::floor_char_boundary` asks for Rust 1.91.
    let end = (0..=max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// [Shortens](shorten) a text to `max` bytes, and [escapes](escape) what is left.
///
/// ```
/// use frame_registry::text::excerpt;
///
/// assert_eq!(excerpt("one\ntwo\nthree", 8), "one\\ntwo\\n…");
/// ```
#[must_use]
pub fn excerpt(text: &str, max: usize) -> String {
    escape(&shorten(text, max)).into_owned()
}

/// Returns the candidate nearest to `name`, if it is near enough to be a typing mistake: at most a third of the characters are
/// inserted, deleted, replaced or swapped with their neighbour. Ignores case.
///
/// ```
/// use frame_registry::text::nearest;
///
/// assert_eq!(nearest("netwrok", ["network", "timeout", "retry"]), Some("network"));
/// assert_eq!(nearest("color", ["network", "timeout", "retry"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// The longest name that something is suggested for, in bytes: the time to compare grows with it.
    const LONGEST: usize = 100;
    if name.len() > LONGEST {
        return None;
    }
    let length = name.chars().count();
    let allowed = (length / 3).max(1);
    // One character is up to three in lower case. Most candidates need not be compared.
    let is_far = |candidate: &str| {
        candidate.len() > 3 * 4 * (length + allowed) || 3 * candidate.chars().count() + allowed < length
    };
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
    let name = lower(name);
    candidates
        .into_iter()
        .filter(|candidate| !is_far(candidate))
        .map(|candidate| (strsim::osa_distance(&name, &lower(candidate)), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The end of an error about an unknown name: `; did you mean …?`, or nothing without a suggestion.
///
/// ```
/// use frame_registry::text::{did_you_mean, nearest};
///
/// let meant = nearest("netwrok", ["network", "timeout"]);
/// let error = format!("unknown option `netwrok`{}", did_you_mean(meant));
/// assert_eq!(error, "unknown option `netwrok`; did you mean `network`?");
/// ```
#[must_use]
pub fn did_you_mean(suggestion: Option<impl Display>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(excerpt("\u{202e}\u{202e}abc", 6), "\\u{202e}\\u{202e}…");
        assert_eq!(excerpt("\u{202e}\u{202e}abc", 5), "\\u{202e}…");
    }

    #[test]
    fn edits_and_swaps_count_and_case_does_not() {
        assert_eq!(nearest("NETWORK", ["network"]), Some("network"));
        assert_eq!(nearest("time_out", ["network", "timeout"]), Some("timeout"));
        assert_eq!(nearest("sitten", ["kitten", "sitting"]), Some("kitten"));
        assert_eq!(nearest("", ["network"]), None);
        assert_eq!(nearest("", ["a"]), Some("a"));
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_printable_on_one_line_and_stays_so(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(escaped.chars().all(|it| it == '\t' || is_printable(it)));
            prop_assert_eq!(escape(&escaped), &*escaped);
        }

        #[test]
        fn escaped_json_is_printable_and_the_same_json(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let escaped = escape_json(&json);
            prop_assert!(escaped.chars().all(is_printable));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn shortened_text_is_its_beginning_and_no_longer_than_asked(text in any::<String>(), max in 0_usize..40) {
            let short = shorten(&text, max);
            if text.len() <= max {
                prop_assert_eq!(&*short, &*text);
            } else {
                let kept = short.strip_suffix('…').unwrap();
                prop_assert!(text.starts_with(kept) && kept.len() <= max && max - kept.len() < 4);
            }
        }

        #[test]
        fn an_excerpt_is_bounded_and_printable(text in any::<String>(), max in 0_usize..40) {
            let excerpt = excerpt(&text, max);
            // A character of one byte takes at most six when it is escaped.
            prop_assert!(excerpt.len() <= max * 6 + '…'.len_utf8());
            prop_assert!(excerpt.chars().all(|it| it == '\t' || is_printable(it)));
        }

        #[test]
        fn a_single_typing_mistake_is_found(name in "[a-z]{3,20}", at in any::<prop::sample::Index>(), edit in 0..4) {
            let mut letters: Vec<char> = name.chars().collect();
            let at = at.index(letters.len());
            match edit {
                0 => letters.insert(at, 'X'),
                1 => letters[at] = 'X',
                2 => _ = letters.remove(at),
                _ => {
                    prop_assume!(at > 0);
                    letters.swap(at - 1, at);
                }
            }
            let typed: String = letters.into_iter().collect();
            prop_assert_eq!(nearest(&typed, [&*name, "0123456789"]), Some(&*name));
        }
    }
}
