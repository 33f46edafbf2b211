//! A process with what the app connects to.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use frame_net::socks5::Relay;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Set in the process of the servers.
const SERVES: &str = "FRAME_LOAD_SERVES";

/// How often a client that asks for ticks gets one.
const TICK: Duration = Duration::from_millis(250);

/// The name that the name server has an address for.
pub(crate) const NAME: &str = "honest.example";

/// An origin of HTTP, a SOCKS5 proxy that leads to it, and a name server. They end when this is dropped.
pub(crate) struct Servers {
    child: Child,
    /// The port of the origin, on 127.0.0.1.
    pub(crate) origin: u16,
    /// The port of the proxy.
    pub(crate) proxy: u16,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "server::serves", "--nocapture"]).env(SERVES, "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ports = lines.find_map(|line| line.split_once("ports ").map(|(_, ports)| ports.to_owned()));
        let ports = ports.expect("the servers say where they are");
        let (origin, proxy) = ports.split_once(' ').unwrap();
        Self { child, origin: origin.parse().unwrap(), proxy: proxy.parse().unwrap() }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is no test, but the process of the servers, where it is asked to be that.
#[test]
fn serves() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    std::thread::spawn(answer_names);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let origin = listen();
        let address = origin.local_addr().unwrap();
        let proxy = Relay::bind("127.0.0.1:0").await.unwrap().with_any_credentials();
        println!("ports {} {}", address.port(), proxy.local_addr().unwrap().port());
        tokio::spawn(proxy.serve(move |_| Ok(address)));
        // Until the process that started this one is no more.
        let parent = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = origin.accept().await.unwrap();
                tokio::spawn(answer(stream));
            }
        });
        let _ = tokio::task::spawn_blocking(|| parent.join()).await;
    });
}

/// With a queue that holds as many as come at a time.
fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.listen(4096).unwrap()
}

/// Answers requests, or sends ticks, and keeps the connection open.
async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if head == b"TICK\r\n\r\n" {
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(TICK).await;
            }
            return;
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

/// Answers questions about [`NAME`], with 127.0.0.1, and no others.
fn answer_names() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let known =
        NAME.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    let known: Vec<u8> = known.chain([0]).collect();
    let mut buffer = [0; 512];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        let Some(rest) = buffer[12..len].strip_prefix(&known[..]) else { continue };
        let is_v4 = rest.starts_with(&[0, 1]);
        let mut message = buffer[..len].to_vec();
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = u8::from(is_v4);
        if is_v4 {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&message, from);
    }
}
