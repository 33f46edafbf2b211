//! Names and values as `application/x-www-form-urlencoded` writes them, which is how queries and forms are sent.

use url::form_urlencoded::byte_serialize;

/// The media type of a form that is written so.
pub(super) const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Appends a pair to `text`.
///
/// As in the URL standard, letters, digits and `*-._` are themselves, a space is `+`, and each byte of anything else is
/// percent-encoded.
pub(super) fn append(text: &mut String, name: &[u8], value: &[u8]) {
    if !text.is_empty() && !text.ends_with('&') {
        text.push('&');
    }
    text.extend(byte_serialize(name));
    text.push('=');
    text.extend(byte_serialize(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (name, value) in pairs {
            append(&mut text, name.as_bytes(), value.as_bytes());
        }
        text
    }

    #[test]
    fn pairs_are_written_as_browsers_write_them() {
        assert_eq!(encoded(&[]), "");
        assert_eq!(encoded(&[("a", "1"), ("b", ""), ("", "c"), ("a", "2")]), "a=1&b=&=c&a=2");
        assert_eq!(encoded(&[("a b", "c+d&e=f/g?h#i%")]), "a+b=c%2Bd%26e%3Df%2Fg%3Fh%23i%25");
        assert_eq!(encoded(&[("*-._~", "é\r\n\0")]), "*-._%7E=%C3%A9%0D%0A%00");
    }

    #[test]
    fn bytes_that_are_not_text_are_percent_encoded() {
        let mut text = "a=1".to_owned();
        append(&mut text, b"b", &[0xff, b' ']);
        assert_eq!(text, "a=1&b=%FF+");
    }
}
