//! What is special about names of headers.

use http::{HeaderName, header};

/// These say where a message ends, whom it is for, or what becomes of the connection. Who could set them could make
/// one request look like two.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const RESERVED_TOO: [&str; 3] = ["http2-settings", "keep-alive", "proxy-connection"];

/// These are secrets whatever is in them.
const SECRET: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::WWW_AUTHENTICATE,
];
const SECRET_TOO: [&str; 11] = [
    "api-key",
    "cookie2",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth",
    "x-auth-token",
    "x-csrf-token",
    "x-goog-api-key",
    "x-vault-token",
    "x-xsrf-token",
];

/// Returns whether a header of this name is a secret whatever its value is.
pub(super) fn is_secret(name: &HeaderName) -> bool {
    SECRET.contains(name) || SECRET_TOO.contains(&name.as_str())
}

/// Returns whether the client alone decides on a header of this name.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(name) || RESERVED_TOO.contains(&name.as_str())
}

/// These are read before the body, or say how to read it: RFC 9110, section 6.5.1. hyper would leave them out over HTTP/1.1.
const NOT_TRAILERS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
];

/// Returns whether a header of this name cannot be a trailer.
pub(super) fn is_not_a_trailer(name: &HeaderName) -> bool {
    NOT_TRAILERS.contains(name)
}
