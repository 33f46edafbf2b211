//! A server of HTTP/1.1 over TLS on loopback, which keeps what it is asked and what went over the wire.
#![allow(dead_code, reason = "it is part of two test binaries, neither of which has a use for all of it")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use frame_net::http::rustls::crypto::ring;
use frame_net::http::rustls::pki_types::PrivateKeyDer;
use frame_net::http::rustls::{ServerConfig, ServerConnection, StreamOwned};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    /// The certificate of its authority.
    pub(crate) ca_pem: String,
    requests: Arc<Mutex<Vec<String>>>,
    wire: Arc<Mutex<Vec<u8>>>,
}

impl TlsServer {
    /// One that is `localhost` and `127.0.0.1`, and answers each request with these bytes.
    pub(crate) fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let certificate =
            CertificateParams::new(names).expect("names").signed_by(&key, &ca).expect("it is signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate with its key");
        let (config, answer) = (Arc::new(config), Arc::new(answer));
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let (requests, wire) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<u8>>>)>::default();
        let (seen, tap) = (Arc::clone(&requests), Arc::clone(&wire));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tls = ServerConnection::new(Arc::clone(&config)).expect("a server");
                let stream = StreamOwned::new(tls, Tapped { stream, wire: Arc::clone(&tap) });
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, ca_pem: ca.pem(), requests, wire }
    }

    /// `https://localhost…`, with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The requests so far: their heads and bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no thread has panicked").clone()
    }

    /// The bytes so far, in both directions.
    pub(crate) fn wire(&self) -> Vec<u8> {
        self.wire.lock().expect("no thread has panicked").clone()
    }
}

/// A stream whose bytes are kept.
struct Tapped {
    stream: TcpStream,
    wire: Arc<Mutex<Vec<u8>>>,
}

impl Read for Tapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.wire.lock().expect("no thread has panicked").extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl Write for Tapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.wire.lock().expect("no thread has panicked").extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Serves a connection until the client closes it, or does not trust the server.
fn serve(
    mut stream: StreamOwned<ServerConnection, Tapped>,
    seen: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str) -> Vec<u8>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let mut request = String::from_utf8(head).expect("a head is text");
        let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        stream.read_exact(&mut body).ok()?;
        request.push_str(&String::from_utf8_lossy(&body));
        let response = answer(&request);
        seen.lock().expect("no thread has panicked").push(request);
        stream.write_all(&response).ok()?;
        stream.flush().ok()?;
    }
}

/// A response with these further headers, each with its line break.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// The header `name` of a request.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = request.lines().skip(1).take_while(|line| !line.is_empty());
    headers.find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name)).map(|(_, value)| value)
}
