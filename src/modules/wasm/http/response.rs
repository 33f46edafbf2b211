//! What a guest reads.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use frame_dispatch::CallContext;
use frame_net::http::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::time::timeout;
use tokio_util::sync::ReusableBoxFuture;
use wasmtime_wasi_http::{Error, WasiBody};

use super::budget::Share;
use super::error;
use crate::modules::refusal;

/// The response of the client as that of `wasi:http`. Its body fails where it takes longer than `patience` until there
/// is more of it, and has `place` until it is read or dropped.
pub(super) fn of(
    response: Response,
    patience: Duration,
    place: Share,
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
    place: Option<Share>,
}

impl Body for Incoming {
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
