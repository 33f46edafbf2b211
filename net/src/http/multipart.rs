//! Bodies of several parts: `multipart/form-data`, RFC 7578.
//!
//! Names and file names are written as browsers write them: in UTF-8, with `"` and control characters percent-encoded, so
//! that none can end the header that it is in. The boundary is random, and another for each request. It has 128 random
//! bits, so no part is searched for it, and parts can be streams.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use data_encoding::HEXLOWER;
use http::HeaderValue;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::body::{Body, BodyError, Content, Unread};
use super::error::HttpError;

/// A form of [parts](Part), for [`Request::multipart`](super::Request::multipart). The parts keep their order, and names
/// may repeat.
///
/// A form with a part that is a [stream](Part::stream) is a stream itself. If the length of each part is known, that of the
/// form is its `Content-Length`; otherwise it is sent in chunks over HTTP/1.1. It is [sent again](Body) only while no more
/// than its first 64 KiB have been read. Clones share the streams, and one of them can be sent.
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
    body: Body,
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
    pub(crate) fn encode(self) -> Result<(Body, HeaderValue), HttpError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| HttpError::Random(Arc::new(error.into())))?;
        let boundary = HEXLOWER.encode(&random);
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let content_type = HeaderValue::try_from(content_type).map_err(|_| HttpError::InvalidHeader)?;
        let body = self.write(&boundary).map_err(HttpError::RequestBody)?;
        Ok((body, content_type))
    }

    fn write(self, boundary: &str) -> Result<Body, BodyError> {
        let heads: Vec<String> = self.parts.iter().map(|(name, part)| part.head(name)).collect();
        let delimiters = (heads.len() + 1) * (boundary.len() + "----\r\n\r\n".len());
        let bodies: usize =
            self.parts.iter().filter_map(|(_, part)| part.body.as_bytes()).map(<[u8]>::len).sum();
        let heads_len: usize = heads.iter().map(String::len).sum();
        let mut text = BytesMut::with_capacity(delimiters + heads_len + bodies);
        let mut written = EncodedForm::default();
        for (number, ((_, part), head)) in (1..).zip(self.parts.into_iter().zip(heads)) {
            text.put(format!("--{boundary}\r\n").as_bytes());
            text.put(head.as_bytes());
            match part.body.into_content()? {
                Content::Whole(bytes) => text.put(bytes),
                Content::Streamed(body) => {
                    written.text(text.split().freeze());
                    written.stream(number, body);
                }
            }
            text.put(&b"\r\n"[..]);
        }
        text.put(format!("--{boundary}--\r\n").as_bytes());
        if written.pieces.is_empty() {
            return Ok(text.freeze().into());
        }
        written.text(text.freeze());
        Ok(Body::new(written))
    }
}

/// A form with parts that are streams, as it is sent.
struct EncodedForm {
    pieces: VecDeque<FormPiece>,
    /// How many bytes there are left, if that is known.
    left: Option<u64>,
}

enum FormPiece {
    Text(Bytes),
    Part { number: usize, body: Box<Unread> },
}

/// A part could not be read. Its name is not told, as there may be secrets in it.
#[derive(Debug, thiserror::Error)]
#[error("part {number} of the form could not be sent")]
struct PartError {
    number: usize,
    source: BodyError,
}

impl Default for EncodedForm {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), left: Some(0) }
    }
}

impl EncodedForm {
    fn text(&mut self, text: Bytes) {
        self.add_length(u64::try_from(text.len()).ok());
        self.pieces.push_back(FormPiece::Text(text));
    }

    fn stream(&mut self, number: usize, body: Unread) {
        self.add_length(body.length());
        self.pieces.push_back(FormPiece::Part { number, body: Box::new(body) });
    }

    fn add_length(&mut self, length: Option<u64>) {
        self.left = self.left.zip(length).and_then(|(left, length)| left.checked_add(length));
    }

    fn sent(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, PartError>>> {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.left = self.left.map(|left| left.saturating_sub(len));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl HttpBody for EncodedForm {
    type Data = Bytes;
    type Error = PartError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PartError>>> {
        loop {
            match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(FormPiece::Text(text)) => {
                    let text = std::mem::take(text);
                    self.pieces.pop_front();
                    return self.sent(text);
                }
                Some(FormPiece::Part { number, body }) => {
                    let number = *number;
                    match ready!(body.poll_data(context)) {
                        Ok(Some(data)) => return self.sent(data),
                        // What the part was read from, such as a file, is closed with it.
                        Ok(None) => drop(self.pieces.pop_front()),
                        Err(source) => {
                            self.pieces.clear();
                            return Poll::Ready(Some(Err(PartError { number, source })));
                        }
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(text.into())
    }

    /// A part of bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::stream(bytes.into())
    }

    /// A part with a body that is read while it is sent, such as a file. It needs no [length](Body::with_length), though
    /// some servers refuse forms without one.
    ///
    /// The request fails if the stream does, has another length than it says, or has trailers. A stream of which something
    /// was read already cannot be a part.
    ///
    /// ```
    /// use frame_net::http::multipart::{Form, Part};
    /// use frame_net::http::{Body, Request};
    ///
    /// let file: &[u8] = b"any `AsyncRead`, such as a file";
    /// let part = Part::stream(Body::from_reader(file).with_length(31)).file_name("report.csv");
    /// let request = Request::post("https://example.com/reports")?.multipart(Form::new().part("report", part))?;
    /// # Ok::<(), frame_net::http::HttpError>(())
    /// ```
    pub fn stream(body: impl Into<Body>) -> Self {
        Self { body: body.into(), file_name: None, content_type: None }
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
            .field("body_len", &self.body.length())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form) -> String {
        let body = form.write("B").unwrap();
        String::from_utf8(body.as_bytes().unwrap().to_vec()).unwrap()
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
        let body = body.as_bytes().unwrap();
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
