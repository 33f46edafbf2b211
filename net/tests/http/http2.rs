//! Connections of HTTP/2 that a server closes, or that go dead.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use frame_net::http::{Bytes, HttpError, Request, Response};
use hyper::body::{Body, Frame};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::World;
use crate::support::soon;
use crate::tls::{Authority, get, overlay};

/// A body of what comes through a channel.
struct Fed(UnboundedReceiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What the test and the server tell each other.
struct Script {
    /// The body of the answer to `/fed`.
    fed: Mutex<Option<UnboundedReceiver<Bytes>>>,
    /// Somebody asked for `/silence`.
    is_silent: Notify,
    /// The first connection takes no more requests from now on.
    go_away: Notify,
}

impl Script {
    /// `/silence` is never answered; what is at other paths says over which connection it comes.
    async fn answer(&self, path: &str, connection: usize) -> hyper::Response<Fed> {
        let body = match path {
            "/fed" => self.fed.lock().unwrap().take().unwrap(),
            "/silence" => {
                self.is_silent.notify_one();
                std::future::pending().await
            }
            _ => {
                let (feed, body) = unbounded_channel();
                feed.send(connection.to_string().into()).unwrap();
                body
            }
        };
        hyper::Response::new(Fed(body))
    }
}

/// A network that leads to a server of HTTP/2, and the first piece of `/fed`, which has come over connection 0.
struct Stage {
    world: World,
    script: Arc<Script>,
    feed: UnboundedSender<Bytes>,
}

impl Stage {
    async fn new() -> Self {
        let authority = Authority::new();
        let acceptor = authority.server("shop.internal", &[b"h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (feed, body) = unbounded_channel();
        let (is_silent, go_away) = (Notify::new(), Notify::new());
        let script = Arc::new(Script { fed: Mutex::new(Some(body)), is_silent, go_away });
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                        let script = Arc::clone(&script);
                        async move { Ok::<_, Infallible>(script.answer(request.uri().path(), number).await) }
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = script.go_away.notified(), if number == 0 => {}
                    }
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                });
            }
        });
        Self { world: overlay(address, authority.trusted()).await, script, feed }
    }

    async fn send(&self, path: &str, time_limit: Duration) -> Result<Response, HttpError> {
        let dialer = self.world.dialer(&json!({ "network": "app:proxy" }));
        let request = Request::get(&format!("https://shop.internal{path}")).unwrap().time_limit(time_limit);
        soon(self.world.client.send(&dialer, request)).await
    }

    /// The response to `/fed`, of which this is read.
    async fn begin(&self) -> Response {
        let mut response = self.send("/fed", LONG).await.unwrap();
        self.feed.send("begun".into()).unwrap();
        assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "begun");
        response
    }

    /// What is on its way comes to its end.
    async fn end(self, mut response: Response) {
        self.feed.send("ended".into()).unwrap();
        drop(self.feed);
        assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "ended");
        assert!(soon(response.chunk()).await.unwrap().is_none());
    }

    /// Over which connection the next request goes.
    async fn connection(&self) -> String {
        get(&self.world, "https://shop.internal/").await.unwrap()
    }
}

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_server_that_goes_away_answers_what_it_has_taken() {
    let stage = Stage::new().await;
    let response = stage.begin().await;
    assert_eq!(stage.connection().await, "0");
    stage.script.go_away.notify_one();
    // It goes over the other connection once the client has heard of it.
    soon(Box::pin(async { while stage.connection().await == "0" {} })).await;
    stage.end(response).await;
}

#[tokio::test]
async fn a_connection_without_an_answer_in_time_gets_no_further_request() {
    let stage = Stage::new().await;
    let response = stage.begin().await;
    let error = stage.send("/silence", SHORT).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error:?}");
    assert_eq!((stage.connection().await, stage.connection().await), ("1".into(), "1".into()));
    stage.end(response).await;
}

#[tokio::test]
async fn a_connection_whose_body_stalls_gets_no_further_request() {
    let stage = Stage::new().await;
    assert_eq!(stage.connection().await, "0");
    let response = stage.send("/fed", SHORT).await.unwrap();
    let error = soon(response.bytes()).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error:?}");
    assert_eq!((stage.connection().await, stage.connection().await), ("1".into(), "1".into()));
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_the_others_of_its_connection_alone() {
    let stage = Stage::new().await;
    let response = stage.begin().await;
    tokio::select! {
        answer = stage.send("/silence", LONG) => panic!("{answer:?}"),
        () = soon(stage.script.is_silent.notified()) => {}
    }
    assert_eq!(stage.connection().await, "1");
    stage.end(response).await;
}

#[tokio::test]
async fn a_response_that_nobody_reads_does_not_wear_its_connection_out() {
    let stage = Stage::new().await;
    drop(stage.begin().await);
    assert_eq!(stage.connection().await, "0");
}
