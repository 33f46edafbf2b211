//! A server of HTTP/1.1 for many connections, whose answers go by the path.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use crate::support::{GENEROUS, soon};

/// The server, until the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How many requests are being answered, and the most that were.
    pub(super) most: Arc<AtomicUsize>,
    /// How many connections there were, and how many there are.
    connections: watch::Receiver<(usize, usize)>,
    /// How many requests were whole.
    pub(super) whole: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (now, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = <_>::default();
        let (counted, connections) = watch::channel((0, 0));
        let whole: Arc<AtomicUsize> = Arc::default();
        let wholes = Arc::clone(&whole);
        let (seen, counted) = (Arc::clone(&most), Arc::new(counted));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(GENEROUS)).unwrap();
                let (now, most, open) = (Arc::clone(&now), Arc::clone(&seen), Arc::clone(&counted));
                let whole = Arc::clone(&wholes);
                open.send_modify(|(all, open)| (*all, *open) = (*all + 1, *open + 1));
                thread::spawn(move || {
                    serve(&stream, &now, &most, &whole);
                    open.send_modify(|(_, open)| *open -= 1);
                });
            }
        });
        Self { address, most, connections, whole }
    }

    /// Waits until there are at most so many connections, after there was one.
    pub(super) async fn closes(&self, left: usize) {
        soon(self.connections.clone().wait_for(|(all, open)| *all > 0 && *open <= left)).await.unwrap();
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(stream: &TcpStream, now: &AtomicUsize, most: &AtomicUsize, whole: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let answered = answer(&head, &mut reader, &mut writer, whole);
        now.fetch_sub(1, Ordering::SeqCst);
        answered?;
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let mut fields = head.iter().skip(1).filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The body of a request, and the lines of the trailers after it.
fn body(head: &[String], reader: &mut BufReader<&TcpStream>) -> Option<(Vec<u8>, String)> {
    let (mut body, mut trailers) = (Vec::new(), String::new());
    if header(head, "transfer-encoding").is_none() {
        let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
        reader.take(length).read_to_end(&mut body).ok()?;
        return (body.len() as u64 == length).then_some((body, trailers));
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let len = u64::from_str_radix(line.trim_end(), 16).unwrap();
        if len == 0 {
            loop {
                let before = trailers.len();
                reader.read_line(&mut trailers).ok().filter(|read| *read > 0)?;
                if &trailers[before..] == "\r\n" {
                    trailers.truncate(before);
                    return Some((body, trailers));
                }
            }
        }
        let before = body.len();
        reader.take(len + 2).read_to_end(&mut body).ok()?;
        if body.len() != before + usize::try_from(len).unwrap() + 2 {
            return None;
        }
        body.truncate(body.len() - 2);
    }
}

fn respond(writer: &mut impl Write, head: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    writer.write_all(&[head.as_bytes(), body].concat()).ok()
}

fn answer(
    head: &[String],
    reader: &mut BufReader<&TcpStream>,
    writer: &mut &TcpStream,
    whole: &AtomicUsize,
) -> Option<()> {
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    let (what, argument) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match what {
        // Answers before it has read the body, and closes.
        "early" => {
            respond(writer, "413 X\r\nConnection: close", b"too much")?;
            let _ = writer.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(reader, &mut std::io::sink());
            return None;
        }
        // Answers, and does not read.
        "answered" => {
            respond(writer, "200 OK", b"answered")?;
            thread::sleep(GENEROUS);
            return None;
        }
        "deaf" => {
            let _ = writer.peek(&mut [0]);
            thread::sleep(GENEROUS);
            return None;
        }
        _ => {}
    }
    let framing = header(head, "content-length").or(header(head, "transfer-encoding")).unwrap_or("none");
    let (sent, trailers) = body(head, reader)?;
    whole.fetch_add(1, Ordering::SeqCst);
    match what {
        "hello" => respond(writer, "200 OK", b"hello"),
        "echo" => respond(writer, "200 OK", &sent),
        "method" => {
            let line = head.first().map(String::as_str).unwrap_or_default();
            respond(writer, "200 OK", line.split(' ').next().unwrap_or_default().as_bytes())
        }
        "framing" => respond(writer, "200 OK", format!("{framing} {}", sent.len()).as_bytes()),
        "trailers-sent" => {
            let announced: Vec<_> = head.iter().filter_map(|line| line.strip_prefix("trailer: ")).collect();
            let text = format!("{}|{trailers}|{}", announced.join(","), String::from_utf8(sent).unwrap());
            respond(writer, "200 OK", text.as_bytes())
        }
        "form" => {
            // The boundary, which is another for each form, is replaced.
            let boundary = header(head, "content-type").and_then(|value| value.split_once("boundary="))?.1;
            let text = format!("{framing}|{}", String::from_utf8(sent).unwrap().replace(boundary, "B"));
            respond(writer, "200 OK", text.as_bytes())
        }
        "bytes" => {
            let count: usize = argument.parse().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
            writer.write_all(head.as_bytes()).ok()?;
            let piece = vec![b'x'; 64 << 10];
            for at in (0..count).step_by(piece.len()) {
                writer.write_all(&piece[..piece.len().min(count - at)]).ok()?;
            }
            Some(())
        }
        "status" => respond(writer, &format!("{argument} X"), b""),
        "slow" => {
            thread::sleep(Duration::from_millis(argument.parse().unwrap()));
            respond(writer, "200 OK", argument.as_bytes())
        }
        "trailers" => writer
            .write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n",
            )
            .ok(),
        // The text `hello`.
        "gzip" => respond(writer, "200 OK\r\nContent-Encoding: gzip", &[
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
        ]),
        "stall" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun").ok()?;
            let _ = reader.read(&mut [0]);
            None
        }
        "events" => {
            let begin = if header(head, "last-event-id") == Some("1") { 2 } else { 1 };
            let event = |number| format!("id: {number}\nevent: tick\ndata: {number}\nretry: 1\n\n");
            let text = if begin == 1 { event(1) } else { event(2) + &event(3) };
            let _ = writer.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{text}").as_bytes(),
            );
            None
        }
        // Two events, with so many milliseconds between them.
        "pause" => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n";
            writer.write_all(head).ok()?;
            thread::sleep(Duration::from_millis(argument.parse().unwrap()));
            let _ = writer.write_all(b"data: 2\n\n");
            None
        }
        "break" => None,
        other => panic!("{other}"),
    }
}
