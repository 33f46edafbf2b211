//! Requests of guests as requests of the client, and responses of the client as those of `wasi:http`.

use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use frame_dispatch::CallContext;
use frame_net::SecretId;
use frame_net::http::{Body, Method, Request, Response};
use http::{HeaderMap, HeaderName, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::ReusableBoxFuture;
use wasmtime_wasi_http::{Error, WasiBody};

use super::error;
use crate::modules::refusal;

/// Lives as long as the call.
pub(super) type Alive = Weak<()>;

/// The client's request for that of a guest. Its body is read while it is sent.
pub(super) async fn client_request(request: http::Request<WasiBody>, alive: Alive) -> Result<Request, Error> {
    let (head, body) = request.into_parts();
    let mut request = Request::new(head.method, &head.uri.to_string())
        .map_err(|failed| error::of_request(&failed))?
        .max_redirects(0)
        .decode(false);
    for (name, value) in &head.headers {
        // The client sends these two itself, and the third is for the host.
        if name != header::CONTENT_LENGTH && name != header::TRAILER && name != SECRET {
            request = request.header(name, value).map_err(|failed| error::of_request(&failed))?;
        }
    }
    if let Some(id) = secret(&head.headers)? {
        request = request.secret(id);
    }
    let mut body = GuestBody { first: None, rest: body, alive };
    let length = content_length(&head.headers);
    // Where a body is unusual, most guests that begin one leave it empty: nothing is said of it then.
    let is_usual = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if length.is_none() && !is_usual && !body.is_end_stream() {
        match body.frame().await {
            None => return Ok(request),
            Some(first) => body.first = Some(first?),
        }
    }
    if body.is_end_stream() && length.is_none() {
        return Ok(request);
    }
    let body = length.into_iter().fold(Body::new(body), Body::with_length);
    Ok(request.body(body.with_trailers(trailers(&head.headers)?)))
}

/// Names the secret that a request carries. It is taken away, and the client adds the header of the secret.
pub(super) const SECRET: HeaderName = HeaderName::from_static("frame-secret");

/// The secret that the guest names.
fn secret(headers: &HeaderMap) -> Result<Option<SecretId>, Error> {
    let mut named = headers.get_all(SECRET).iter();
    let (Some(id), None) = (named.next(), named.next()) else {
        return if headers.contains_key(SECRET) { Err(Error::HttpRequestDenied) } else { Ok(None) };
    };
    let id = id.to_str().ok().and_then(|id| id.parse().ok());
    id.map(Some).ok_or(Error::HttpRequestDenied)
}

/// What the guest says that its body has, which is a number: `wasi:http` has seen to that.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The trailers that the guest announces.
fn trailers(headers: &HeaderMap) -> Result<Vec<HeaderName>, Error> {
    let values = headers.get_all(header::TRAILER).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    names.map(|name| HeaderName::from_bytes(name).map_err(|_| Error::HttpRequestDenied)).collect()
}

/// The body that a guest writes.
struct GuestBody {
    /// What was read of it already.
    first: Option<Frame<Bytes>>,
    rest: WasiBody,
    alive: Alive,
}

impl HttpBody for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(context));
        // The end of the call ends the body, too, which is not whole then.
        if frame.is_none() && self.alive.strong_count() == 0 {
            return Poll::Ready(Some(Err(Error::HttpProtocolError)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    /// It is what the guest says that counts, see [`client_request`].
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The response of the client as that of `wasi:http`. Its body fails where it takes longer than `patience` until there
/// is more of it, and has `place` until it is read or dropped.
pub(super) fn guest_response(
    response: Response,
    patience: Duration,
    place: OwnedSemaphorePermit,
    call: CallContext,
) -> http::Response<WasiBody> {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = Incoming {
        next: Some(ReusableBoxFuture::new(read(response, patience, call))),
        patience,
        place: Some(place),
    };
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

type Read = (Response, CallContext, Result<Option<Bytes>, Error>);

/// The next piece. The time for it runs from when it is first asked for: a guest that takes its time is not to blame a
/// server for it.
async fn read(mut response: Response, patience: Duration, call: CallContext) -> Read {
    let read = match timeout(patience, response.chunk()).await {
        Ok(read) => read.map_err(|failed| {
            refusal::log(&call, &failed);
            error::in_the_body(&failed)
        }),
        Err(_) => Err(Error::ConnectionReadTimeout),
    };
    (response, call, read)
}

/// A body of which the client reads no more than the guest asks for.
struct Incoming {
    /// What is read at the moment, until the end. It is kept from one poll to the next for its timers.
    next: Option<ReusableBoxFuture<'static, Read>>,
    patience: Duration,
    place: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let (response, call, read) = ready!(next.poll(context));
        if let Ok(Some(chunk)) = read {
            let patience = self.patience;
            if let Some(next) = &mut self.next {
                next.set(self::read(response, patience, call));
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        (self.next, self.place) = (None, None);
        Poll::Ready(match read {
            Ok(_) => response.trailers().map(|trailers| Ok(Frame::trailers(trailers.clone()))),
            Err(failed) => Some(Err(failed)),
        })
    }
}
