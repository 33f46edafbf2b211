//! Text of somebody else's, as it is kept and as a log shows it.

/// Text of a guest, such that it cannot pass for more than one line, nor for anything but text: control characters are
/// escaped, and what is over `longest` bytes is cut.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let kept = &text[..text.floor_char_boundary(longest)];
    let mut printable = String::with_capacity(kept.len());
    for character in kept.chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
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
