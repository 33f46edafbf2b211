//! A process with what the app connects to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::relay::Relay;

/// Set in the processes of the servers: to `origin`, or to the address that the proxy leads to.
const SERVES: &str = "FRAME_LOAD_SERVES";

/// Clients that are full wait for it. It is closed when all of them are.
static HELD: Semaphore = Semaphore::const_new(0);

/// How long a client waits that asks for a tick.
const TICK: Duration = Duration::from_secs(1);

/// How many threads answer for the name server.
const NAME_THREADS: usize = 4;

/// The name that the name server has an address for.
pub(crate) const NAME: &str = "honest.example";

/// An origin of HTTP with a name server, and a SOCKS5 proxy that leads to the origin. They end when this is dropped.
///
/// Each is a process of its own: the proxy has two descriptors open for each connection.
pub(crate) struct Servers {
    processes: [Child; 2],
    /// What the origin says.
    lines: Lines,
    /// The port of the origin, on 127.0.0.1.
    pub(crate) origin: u16,
    /// The port of the proxy.
    pub(crate) proxy: u16,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let (serves, origin, lines) = start("origin");
        let (proxies, proxy, _) = start(&format!("127.0.0.1:{origin}"));
        Self { processes: [serves, proxies], lines, origin, proxy }
    }

    /// Waits until so many clients have said that they are full, and lets all of them go on.
    pub(crate) async fn release_once_full(&mut self, clients: usize) {
        let mut lines = std::mem::replace(&mut self.lines, Box::new(std::iter::empty()));
        let waited = tokio::task::spawn_blocking(move || {
            let full = lines.by_ref().filter(|line| line.ends_with("full")).take(clients).count();
            (lines, full)
        });
        let (lines, full) = waited.await.unwrap();
        assert_eq!(full, clients, "the origin has ended");
        self.lines = lines;
        self.processes[0].stdin.as_mut().unwrap().write_all(b".").unwrap();
    }

    /// Fails if one has ended: then it was them who did not answer.
    pub(crate) fn check(&mut self) {
        for process in &mut self.processes {
            assert_eq!(process.try_wait().unwrap(), None, "a server has ended");
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

type Lines = Box<dyn Iterator<Item = String> + Send>;

/// Starts a server, and waits for its port.
fn start(what: &str) -> (Child, u16, Lines) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "server::serves", "--nocapture"]).env(SERVES, what);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.split_once("port ").map(|(_, port)| port.parse().unwrap()));
    (child, port.expect("the server says where it is"), Box::new(lines))
}

/// Not a test: runs as the process of a server if the environment asks for it.
#[test]
fn serves() {
    let Ok(what) = std::env::var(SERVES) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // Until the process that started this one is no more.
        let parent = std::thread::spawn(|| {
            while let Ok(1..) = std::io::stdin().read(&mut [0]) {
                HELD.close();
            }
        });
        if what == "origin" {
            std::thread::spawn(answer_names);
            let origin = listen();
            println!("port {}", origin.local_addr().unwrap().port());
            tokio::spawn(async move {
                loop {
                    match origin.accept().await {
                        Ok((stream, _)) => _ = tokio::spawn(answer(stream)),
                        Err(error) => give_up(&error),
                    }
                }
            });
        } else {
            let origin: SocketAddr = what.parse().unwrap();
            let proxy = Relay::bind("127.0.0.1:0").await.unwrap().with_any_credentials();
            println!("port {}", proxy.local_addr().unwrap().port());
            tokio::spawn(async move {
                let Err(error) = proxy.serve(move |_| Ok(origin)).await;
                give_up(&error);
            });
        }
        let _ = tokio::task::spawn_blocking(|| parent.join()).await;
    });
}

/// Ends the server, so that the test learns of it.
fn give_up(error: &std::io::Error) -> ! {
    eprintln!("a server of this test accepts no connections any more: {error}");
    std::process::abort();
}

/// With a queue that holds as many as come at a time.
fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.listen(4096).unwrap()
}

/// Answers requests, those for a tick after a time, and keeps the connection open.
async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let answer: &[u8] = if head == b"FULL\r\n\r\n" {
            println!("full");
            let _ = HELD.acquire().await;
            b"."
        } else if head == b"TICK\r\n\r\n" {
            tokio::time::sleep(TICK).await;
            b"."
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        };
        head.clear();
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Answers questions about [`NAME`], with 127.0.0.1, and no others.
fn answer_names() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    // What is queued is little. It overflows less where several threads take from it, and the processors are busy.
    for _ in 1..NAME_THREADS {
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || answer_questions(&socket));
    }
    answer_questions(&socket);
}

fn answer_questions(socket: &UdpSocket) {
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
