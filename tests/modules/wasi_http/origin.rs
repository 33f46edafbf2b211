//! A server that says what it sees.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::guest::soon;

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) from: SocketAddr,
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The lines behind a body in chunks.
    pub(crate) trailers: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Request(Seen),
    /// The client closed a connection.
    Closed,
}

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    events: UnboundedReceiver<Event>,
}

impl Origin {
    /// One that answers each request with these bytes, and closes no connection.
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (happens, events) = unbounded_channel();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (stream, from) = listener.accept().await.unwrap();
                let (happens, answer) = (happens.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    serve(stream, from, &*answer, &happens).await;
                    let _ = happens.send(Event::Closed);
                });
            }
        });
        Self { address, events }
    }

    /// One that takes requests and says nothing.
    pub(crate) async fn silent() -> Self {
        Self::new(|_| Vec::new()).await
    }

    /// What happens next.
    pub(crate) async fn event(&mut self) -> Event {
        soon(self.events.recv()).await.expect("the origin is there")
    }

    /// The next request.
    pub(crate) async fn request(&mut self) -> Seen {
        match self.event().await {
            Event::Request(seen) => seen,
            Event::Closed => panic!("a connection is closed"),
        }
    }

    /// Waits until a client closes a connection.
    pub(crate) async fn closed(&mut self) {
        match self.event().await {
            Event::Closed => {}
            Event::Request(seen) => panic!("{seen:?}"),
        }
    }

    /// Whether nothing happened that nobody has asked about.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.events.try_recv().is_err()
    }
}

/// Serves a connection, until the client closes it.
async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    answer: &(impl Fn(&Seen) -> Vec<u8> + ?Sized),
    happens: &UnboundedSender<Event>,
) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
                continue;
            }
            return;
        };
        let text = String::from_utf8(read[..head].to_vec()).unwrap();
        let mut seen = Seen { from, head: text, body: Vec::new(), trailers: String::new() };
        let end = loop {
            if let Some(end) = read_body(&mut seen, &read[head..]) {
                break head + end;
            }
            if !stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
                return;
            }
        };
        read.drain(..end);
        let bytes = answer(&seen);
        let _ = happens.send(Event::Request(seen));
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads the body of `seen` from what follows its head. Returns how long that is, if it is whole.
fn read_body(seen: &mut Seen, rest: &[u8]) -> Option<usize> {
    if seen.header("transfer-encoding").is_none() {
        let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
        seen.body = rest.get(..length)?.to_vec();
        return Some(length);
    }
    let (mut body, mut at) = (Vec::new(), 0);
    let line = |at: usize| {
        let len = rest.get(at..)?.windows(2).position(|end| end == b"\r\n")?;
        Some(str::from_utf8(&rest[at..at + len]).unwrap())
    };
    loop {
        let size = line(at)?;
        at += size.len() + 2;
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(at..at + size)?);
        at += size + 2;
    }
    let mut trailers = String::new();
    loop {
        let field = line(at)?;
        at += field.len() + 2;
        if field.is_empty() {
            (seen.body, seen.trailers) = (body, trailers);
            return Some(at);
        }
        trailers = format!("{trailers}{field}\n");
    }
}

/// 200, with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    response("200 OK", "", body)
}

/// A response with these further headers, each with its line break.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into()
}
