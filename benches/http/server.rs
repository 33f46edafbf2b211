//! The server, and a SOCKS5 proxy before it: the program once more, in a process of its own.

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use frame_net::http::rustls::pki_types::PrivateKeyDer;
use frame_net::http::rustls::{self, ServerConfig};
use frame_net::http::{Bytes, Method};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::relay::Relay;

/// Set in the process of the server.
const MODE: &str = "FRAME_BENCHES_HTTP_SERVER";

/// How many bytes are at [`Protocol::url`] with the path `/bulk`.
pub(crate) const BULK: usize = 64 << 20;

/// What is spoken with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/1.1 inside TLS.
    Http1Tls,
    /// HTTP/2 inside TLS.
    Http2,
}

pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2];

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Tls => "HTTP/1.1, TLS",
            Self::Http2 => "HTTP/2, TLS",
        }
    }
}

/// The server. It ends when this is dropped.
pub(crate) struct Server {
    addresses: [SocketAddr; 3],
    pub(crate) socks5: SocketAddr,
    /// Its certificate, which is its own root.
    pub(crate) certificate: rustls::pki_types::CertificateDer<'static>,
    folder: TempDir,
    child: Child,
    /// The process ends with this.
    stdin: Option<ChildStdin>,
}

impl Server {
    /// Starts the server. In its own process this does not return.
    pub(crate) fn start() -> Self {
        if std::env::var_os(MODE).is_some() {
            serve();
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("certificate.der"), certificate.der()).unwrap();
        fs::write(folder.path().join("certificate.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("key.der"), key.serialize_der()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(MODE, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = || lines.next().unwrap().unwrap().parse().unwrap();
        let (addresses, socks5) = ([address(), address(), address()], address());
        let certificate = certificate.der().clone();
        let stdin = child.stdin.take();
        Self { addresses, socks5, certificate, folder, child, stdin }
    }

    pub(crate) fn url(&self, protocol: Protocol, path: &str) -> String {
        let scheme = if protocol == Protocol::Http1 { "http" } else { "https" };
        let index = PROTOCOLS.iter().position(|&other| other == protocol).unwrap();
        format!("{scheme}://{}{path}", self.addresses[index])
    }

    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Serves until the standard input ends.
fn serve() -> ! {
    let folder = PathBuf::from(std::env::var_os(MODE).unwrap());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for protocol in PROTOCOLS {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                println!("{}", listener.local_addr().unwrap());
                tokio::spawn(accept(listener, protocol, acceptor(&folder, protocol)));
            }
            // The proxy has a thread of its own, as another program would.
            thread::spawn(relay);
            std::future::pending::<()>().await;
        });
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

fn relay() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let relay = Relay::bind("127.0.0.1:0").await.unwrap();
        println!("{}", relay.local_addr().unwrap());
        let _ = relay.serve(|request| Ok(request.to.to_string().parse().unwrap())).await;
    });
}

fn acceptor(folder: &Path, protocol: Protocol) -> TlsAcceptor {
    let read = |name| fs::read(folder.join(name)).unwrap();
    let key = PrivateKeyDer::try_from(read("key.der")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let certificate = vec![read("certificate.der").into()];
    let mut config = builder.with_no_client_auth().with_single_cert(certificate, key).unwrap();
    let spoken: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![spoken.to_vec()];
    Arc::new(config).into()
}

async fn accept(listener: TcpListener, protocol: Protocol, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match protocol {
                Protocol::Http1 => speak(stream, protocol).await,
                Protocol::Http1Tls | Protocol::Http2 => {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    speak(stream, protocol).await;
                }
            }
        });
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, protocol: Protocol) {
    let (stream, service) = (TokioIo::new(stream), service_fn(answer));
    // How it ends is for the client to tell.
    let _ = match protocol {
        Protocol::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(stream, service).await
        }
        Protocol::Http1 | Protocol::Http1Tls => {
            hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
        }
    };
}

async fn answer(
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let body = if request.uri().path() == "/bulk" && request.method() == Method::GET {
        Bulk(BULK).boxed()
    } else {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        http_body_util::Full::new(Bytes::from_static(b"Hello, world!")).boxed()
    };
    Ok(hyper::Response::new(body))
}

/// So many bytes.
struct Bulk(usize);

static PIECE: [u8; 64 << 10] = [7; 64 << 10];

impl Body for Bulk {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let len = self.0.min(PIECE.len());
        self.0 -= len;
        Poll::Ready((len > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..len])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}
