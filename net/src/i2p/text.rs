//! What others wrote, made fit to be shown.

/// At most `most` characters of `text`, and none but printable ASCII: what a bridge says ends up in logs and on
/// terminals.
pub(super) fn shown(text: &str, most: usize) -> Box<str> {
    let printable = |character: char| match character {
        ' '..='~' => character,
        _ => '?',
    };
    let mut shown: String = text.chars().take(most).map(printable).collect();
    if text.chars().nth(most).is_some() {
        shown.push_str("...");
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_shown_and_not_much_of_it() {
        assert_eq!(&*shown("no\x1b[31m t\u{202e}unnel\0", 40), "no?[31m t?unnel?");
        assert_eq!(&*shown("abcdef", 6), "abcdef");
        assert_eq!(&*shown("abcdefg", 6), "abcdef...");
    }
}
