//! A server that says what it sees.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use frame_net::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use crate::support::soon;

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The how-manieth connection it came over.
    pub(crate) connection: usize,
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn method(&self) -> &str {
        self.line().split(' ').next().unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) enum Answer {
    /// Is sent; then the next request is waited for.
    Keep(Vec<u8>),
    /// Is sent; then the connection is closed.
    Close(Vec<u8>),
    /// Is sent again and again, with a pause before each.
    Drip(Vec<u8>),
}

/// 200, with this body.
pub(crate) fn ok(body: impl AsRef<str>) -> Answer {
    response(200, &[], body)
}

pub(crate) fn redirect(status: u16, to: &str) -> Answer {
    response(status, &[("Location", to)], "moved")
}

pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<str>) -> Answer {
    let body = body.as_ref();
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    Answer::Keep(format!("{text}\r\n{body}").into())
}

#[derive(Debug)]
pub(crate) enum Event {
    Request(Seen),
    /// The connection of this number is closed by the client.
    Closed(usize),
}

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    events: UnboundedReceiver<Event>,
}

type Answers = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

impl Origin {
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(None, answer).await
    }

    pub(crate) async fn tls(
        acceptor: TlsAcceptor,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(acceptor), answer).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = unbounded_channel();
        let answer: Answers = Arc::new(answer);
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, answer, sender) = (tls.clone(), Arc::clone(&answer), sender.clone());
                tokio::spawn(async move {
                    let stream: BoxStream = match tls {
                        None => Box::new(stream),
                        // A client that trusts nobody breaks off.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    serve(stream, connection, &answer, &sender).await;
                    // The test may be over.
                    let _ = sender.send(Event::Closed(connection));
                });
            }
        });
        Self { address, events }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What happens next.
    pub(crate) async fn event(&mut self) -> Event {
        soon(self.events.recv()).await.unwrap()
    }

    /// The next that happens must be a request.
    pub(crate) async fn request(&mut self) -> Seen {
        match self.event().await {
            Event::Request(seen) => seen,
            closed @ Event::Closed(_) => panic!("{closed:?}"),
        }
    }

    /// The next that happens must be that the client closes a connection.
    pub(crate) async fn closed(&mut self) -> usize {
        match self.event().await {
            Event::Closed(connection) => connection,
            request @ Event::Request(_) => panic!("{request:?}"),
        }
    }

    /// Nothing happened that nobody asked for.
    pub(crate) fn assert_silent(&mut self) {
        assert!(self.events.is_empty(), "{:?}", self.events.try_recv());
    }
}

async fn serve(
    mut stream: BoxStream,
    connection: usize,
    answer: &Answers,
    events: &UnboundedSender<Event>,
) -> Option<()> {
    while let Some(seen) = read(&mut stream, connection).await {
        let answer = answer(&seen);
        events.send(Event::Request(seen)).ok()?;
        match answer {
            Answer::Keep(bytes) => stream.write_all(&bytes).await.ok()?,
            Answer::Close(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                // Until the client has seen that.
                stream.read_to_end(&mut Vec::new()).await.ok()?;
                return None;
            }
            Answer::Drip(bytes) => loop {
                stream.write_all(&bytes).await.ok()?;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            },
        }
    }
    Some(())
}

/// The next request, unless the client closes.
async fn read(stream: &mut BoxStream, connection: usize) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut seen = Seen { connection, head, body: Vec::new() };
    assert!(seen.header("transfer-encoding").is_none(), "the length of a body is known");
    let len = seen.header("content-length").map_or(0, |len| len.parse().unwrap());
    seen.body = vec![0; len];
    stream.read_exact(&mut seen.body).await.ok()?;
    Some(seen)
}
