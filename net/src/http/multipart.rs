//! Bodies of several parts: `multipart/form-data`, RFC 7578.
//!
//! Names and file names are written as browsers write them: in UTF-8, with `"` and control characters percent-encoded, so
//! that none can end the header that it is in. The boundary is random, and another for each request.

use std::fmt::{self, Write as _};

use bytes::{BufMut as _, Bytes, BytesMut};
use data_encoding::HEXLOWER;
use http::HeaderValue;

use super::error::HttpError;

/// A form of [parts](Part), for [`Request::multipart`](super::Request::multipart). The parts keep their order, and names
/// may repeat.
///
/// ```
/// use frame_net::http::Request;
/// use frame_net::http::multipart::{Form, Part};
///
/// let photo = Part::bytes(&b"\x89PNG"[..]).file_name("me.png").content_type("image/png")?;
/// let form = Form::new().text("user", "ada").part("photo", photo);
/// let request = Request::post("https://shop.example/users")?.multipart(form)?;
/// # Ok::<(), frame_net::http::HttpError>(())
/// ```
#[derive(Clone, Default)]
pub struct Form {
    parts: Vec<(String, Part)>,
}

/// A part of a [`Form`].
#[derive(Clone)]
pub struct Part {
    body: Bytes,
    file_name: Option<String>,
    content_type: Option<HeaderValue>,
}

impl Form {
    /// A form without parts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a part of text.
    #[must_use]
    pub fn text(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.part(name, Part::text(value))
    }

    /// With a part.
    #[must_use]
    pub fn part(mut self, name: impl Into<String>, part: Part) -> Self {
        self.parts.push((name.into(), part));
        self
    }

    /// The body, and its `Content-Type`.
    pub(super) fn encode(self) -> Result<(Bytes, HeaderValue), HttpError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| HttpError::Random(error.into()))?;
        let boundary = HEXLOWER.encode(&random);
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let content_type = HeaderValue::try_from(content_type).map_err(|_| HttpError::InvalidHeader)?;
        Ok((self.write(&boundary), content_type))
    }

    fn write(self, boundary: &str) -> Bytes {
        let heads: Vec<String> = self.parts.iter().map(|(name, part)| part.head(name)).collect();
        let delimiters = (heads.len() + 1) * (boundary.len() + "----\r\n\r\n".len());
        let bodies: usize = self.parts.iter().map(|(_, part)| part.body.len()).sum();
        let heads_len: usize = heads.iter().map(String::len).sum();
        let mut body = BytesMut::with_capacity(delimiters + heads_len + bodies);
        for ((_, part), head) in self.parts.iter().zip(heads) {
            body.put(format!("--{boundary}\r\n").as_bytes());
            body.put(head.as_bytes());
            body.put(&*part.body);
            body.put(&b"\r\n"[..]);
        }
        body.put(format!("--{boundary}--\r\n").as_bytes());
        body.freeze()
    }
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(text.into())
    }

    /// A part of bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { body: bytes.into(), file_name: None, content_type: None }
    }

    /// With the name of a file. Servers take the part for an uploaded file then. Unless it has another [content
    /// type](Self::content_type), that is `application/octet-stream`.
    #[must_use]
    pub fn file_name(self, name: impl Into<String>) -> Self {
        Self { file_name: Some(name.into()), ..self }
    }

    /// With a `Content-Type`. Without one, the part is plain text, or a file of bytes.
    ///
    /// # Errors
    ///
    /// [`HttpError::InvalidHeader`] if no header has such a value.
    pub fn content_type(self, value: impl TryInto<HeaderValue>) -> Result<Self, HttpError> {
        let value = value.try_into().map_err(|_| HttpError::InvalidHeader)?;
        // Parts are read by other parsers than heads are, so what is sent is plain.
        let is_plain = value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
        if value.is_empty() || !is_plain {
            return Err(HttpError::InvalidHeader);
        }
        Ok(Self { content_type: Some(value), ..self })
    }

    /// The headers, and the empty line after them.
    fn head(&self, name: &str) -> String {
        let mut head = format!("Content-Disposition: form-data; name=\"{}\"", quoted(name));
        if let Some(file_name) = &self.file_name {
            head.extend(["; filename=\"", &quoted(file_name), "\""]);
        }
        let of_file = self.file_name.as_ref().map(|_| "application/octet-stream");
        let given = self.content_type.as_ref().and_then(|value| value.to_str().ok());
        if let Some(content_type) = given.or(of_file) {
            head.extend(["\r\nContent-Type: ", content_type]);
        }
        head + "\r\n\r\n"
    }
}

/// A name between quotation marks. The HTML standard percent-encodes quotation marks and line breaks and nothing else, so
/// that is what servers expect; other control characters are encoded too, since parsers disagree on them.
fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if character == '"' || character.is_ascii_control() {
            // To write into a string cannot fail.
            let _ = write!(text, "%{:02X}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

/// Without the bodies, where secrets may be.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.parts.iter().map(|(name, part)| (name, part))).finish()
    }
}

/// Without the body, where secrets may be.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("file_name", &self.file_name)
            .field("content_type", &self.content_type)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form) -> String {
        String::from_utf8(form.write("B").into()).unwrap()
    }

    #[test]
    fn parts_are_written_in_their_order() {
        let file = Part::bytes(&b"\r\n--B--"[..]).file_name("a.bin");
        let json = Part::text("{}").content_type("application/json").unwrap();
        let form = Form::new().text("a", "1").part("f", file).text("a", "2").part("j", json);
        assert_eq!(
            written(form),
            "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
             --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n\r\n--B--\r\n\
             --B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n2\r\n\
             --B\r\nContent-Disposition: form-data; name=\"j\"\r\nContent-Type: application/json\r\n\r\n{}\r\n\
             --B--\r\n"
        );
        assert_eq!(written(Form::new()), "--B--\r\n");
    }

    #[test]
    fn no_name_ends_its_header() {
        let part = Part::text("").file_name("a\"; name=\"b\r\n\r\n\0é\\'.txt");
        let text = written(Form::new().part("x\"\ny", part));
        assert!(
            text.contains("name=\"x%22%0Ay\"; filename=\"a%22; name=%22b%0D%0A%0D%0A%00é\\'.txt\"\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_content_type_is_plain() {
        for value in ["", "a\tb", "é", "text/plain\r\nx: y"] {
            assert!(Part::text("").content_type(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn each_body_has_another_boundary_which_its_header_names() {
        let encoded = || Form::new().text("a", "b").encode().unwrap();
        let (body, content_type) = encoded();
        let boundary = content_type.to_str().unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
        assert!(body.starts_with(format!("--{boundary}\r\n").as_bytes()));
        assert!(body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()));
        assert_ne!(content_type, encoded().1);
    }

    #[test]
    fn bodies_are_not_shown() {
        let form = Form::new().text("a", "31337");
        assert!(!format!("{form:?}").contains("31337"));
    }
}
