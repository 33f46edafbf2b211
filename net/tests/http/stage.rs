//! A server of HTTP/1.1 or HTTP/2 whose bodies are streams.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use frame_net::http::{Bytes, HeaderMap, HeaderValue, HttpConfig, HttpError, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::soon;
use crate::tls::{Authority, overlay};
use crate::{World, world_with};

/// The server, and a world that leads there.
pub(crate) struct Stage {
    pub(crate) world: World,
    base: String,
    options: Value,
    /// The connections that the client has closed.
    closed: UnboundedReceiver<usize>,
    /// How many requests have arrived.
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Stage {
    /// One for each version.
    pub(crate) async fn both(config: &HttpConfig) -> [Self; 2] {
        [Self::http1(config.clone()).await, Self::http2(config.clone()).await]
    }

    pub(crate) async fn http1(config: HttpConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (closed, requests) = serve(listener, None);
        Self { world: world_with(&json!({}), config), base, options: json!({}), closed, requests }
    }

    pub(crate) async fn http2(mut config: HttpConfig) -> Self {
        let authority = Authority::new();
        let acceptor = authority.server("shop.internal", &[b"h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (closed, requests) = serve(listener, Some(acceptor));
        config.trust = authority.trusted().trust;
        let (base, options) = ("https://shop.internal".to_owned(), json!({ "network": "app:proxy" }));
        Self { world: overlay(address, config).await, base, options, closed, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        Request::get(&self.url(path)).unwrap()
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        Request::post(&self.url(path)).unwrap()
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Response, HttpError> {
        soon(self.world.client.send(&self.world.dialer(&self.options), request)).await
    }

    pub(crate) async fn text(&self, request: Request) -> String {
        soon(self.send(request).await.unwrap().text()).await.unwrap()
    }

    /// The next connection that the client closes.
    pub(crate) async fn closed(&mut self) -> usize {
        soon(self.closed.recv()).await.unwrap()
    }
}

fn serve(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
) -> (UnboundedReceiver<usize>, Arc<AtomicUsize>) {
    let (sender, closed) = unbounded_channel();
    let requests: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, sender, counted) = (tls.clone(), sender.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let service = service_fn(|request: hyper::Request<Incoming>| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    async move { Ok::<_, Infallible>(answer(request, number).await) }
                });
                // The client closes when it likes.
                if let Some(tls) = tls {
                    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(stream, service).await;
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                }
                let _ = sender.send(number);
            });
        }
    });
    (closed, requests)
}

type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

fn whole(text: impl Into<Bytes>) -> Answer {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn answer(request: hyper::Request<Incoming>, connection: usize) -> hyper::Response<Answer> {
    let path = request.uri().path().to_owned();
    let (what, argument) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match what {
        "connection" => hyper::Response::new(whole(connection.to_string())),
        "echo" => hyper::Response::new(request.into_body().boxed_unsync()),
        // What it says of its body, and what that is.
        "told" => {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap();
            let header =
                |name| head.headers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap());
            let trailers = body.trailers().cloned().unwrap_or_default();
            let told = format!(
                "{}|{}|{}|{trailers:?}|{}",
                header("content-length"),
                header("transfer-encoding"),
                header("trailer"),
                String::from_utf8_lossy(&body.to_bytes())
            );
            hyper::Response::new(whole(told))
        }
        // Counts, without keeping anything.
        "count" => {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            hyper::Response::new(whole(count.to_string()))
        }
        // So many bytes.
        "bytes" => hyper::Response::new(Zeros(argument.parse().unwrap()).boxed_unsync()),
        // A piece every few milliseconds, for ever.
        "drip" => {
            let (sender, body) = unbounded_channel();
            tokio::spawn(async move {
                while sender.send(Frame::data("drop".into())).is_ok() {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            });
            hyper::Response::new(Fed(body).boxed_unsync())
        }
        // One piece, and nothing more.
        "stall" => {
            let (sender, body) = unbounded_channel();
            sender.send(Frame::data("begun".into())).unwrap();
            std::mem::forget(sender);
            hyper::Response::new(Fed(body).boxed_unsync())
        }
        // Does not read, and does not answer.
        "deaf" => {
            let _request = request;
            std::future::pending().await
        }
        "trailers" => {
            let (sender, body) = unbounded_channel();
            let trailers: HeaderMap =
                [(http_name("x-sum"), HeaderValue::from_static("42"))].into_iter().collect();
            sender.send(Frame::data("body".into())).unwrap();
            sender.send(Frame::trailers(trailers)).unwrap();
            let te = request.headers().get("te").cloned();
            let mut response = hyper::Response::new(Fed(body).boxed_unsync());
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
            if let Some(te) = te {
                response.headers_mut().insert("x-te", te);
            }
            response
        }
        "redirect" => {
            let mut response = hyper::Response::new(whole(""));
            *response.status_mut() = frame_net::http::StatusCode::TEMPORARY_REDIRECT;
            let to = format!("/{argument}").parse().unwrap();
            response.headers_mut().insert("location", to);
            // Once it has all of the request.
            let _ = request.into_body().collect().await;
            response
        }
        other => panic!("{other}"),
    }
}

fn http_name(name: &'static str) -> frame_net::http::HeaderName {
    frame_net::http::HeaderName::from_static(name)
}

/// So many zeros.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let len = usize::try_from(self.0).unwrap_or(usize::MAX).min(ZEROS.len());
        self.0 -= u64::try_from(len).unwrap();
        Poll::Ready((len > 0).then(|| Ok(Frame::data(Bytes::from_static(&ZEROS[..len])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.0)
    }
}

/// What comes through a channel.
pub(crate) struct Fed(pub(crate) UnboundedReceiver<Frame<Bytes>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// A body that a test feeds.
pub(crate) fn fed() -> (UnboundedSender<Frame<Bytes>>, frame_net::http::Body) {
    let (sender, receiver) = unbounded_channel();
    (sender, frame_net::http::Body::new(Fed(receiver)))
}
