//! What a guest asks for.

use bytes::{Bytes, BytesMut};
use frame_net::http::Request;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error, WasiBody};

use super::budget::{Budget, Share};
use super::error;

/// The client's request for that of a guest, with all of its body, and the room that the body takes.
pub(super) async fn read(
    request: http::Request<WasiBody>,
    budget: &Budget,
) -> Result<(Request, Share), Error> {
    let (head, body) = request.into_parts();
    // What cannot be sent is refused before anything is waited for.
    let mut request = Request::new(head.method, &head.uri.to_string())
        .map_err(|failed| error::of_request(&failed))?
        .max_redirects(0);
    let expected = content_length(&head.headers);
    for (name, value) in &head.headers {
        // The client says how long the body is. What the guest says is checked below.
        if name != header::CONTENT_LENGTH {
            request = request.header(name, value).map_err(|failed| error::of_request(&failed))?;
        }
    }
    let (body, room) = collect(body, budget).await?;
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    if expected.is_some_and(|expected| expected != length) {
        return Err(Error::HttpRequestBodySize(Some(length)));
    }
    Ok((request.body(body), room))
}

/// What the guest says that its body has, which is a number: `wasi:http` has seen to that.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// All of a body, as soon as the guest has finished it.
async fn collect(mut body: WasiBody, budget: &Budget) -> Result<(Bytes, Share), Error> {
    let mut collected = BytesMut::new();
    let mut room = budget.body(0)?;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                room.merge(budget.body(data.len())?);
                collected.extend_from_slice(&data);
            }
            Err(frame) => {
                // The client has no way to send them. Leaving them out might change what the request says.
                if frame.trailers_ref().is_some_and(|trailers| !trailers.is_empty()) {
                    return Err(Error::HttpRequestTrailerSectionSize(Some(0)));
                }
            }
        }
    }
    Ok((collected.freeze(), room))
}
