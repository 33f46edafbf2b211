//! A server that sends and takes bodies of any size.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Serves one connection: `/down` has so many bytes, and `/gzip`, `/br` and `/zstd` have them encoded.
pub(crate) fn start(size: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener.accept().unwrap().0, size));
    address
}

fn serve(stream: &TcpStream, size: u64) {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    if head[0].starts_with("POST") {
        let count = count_chunks(&mut reader).to_string();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{count}", count.len());
        writer.write_all(text.as_bytes()).unwrap();
        return;
    }
    let coding = &path[1..];
    if coding == "down" {
        writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes()).unwrap();
        write_text(&mut writer, size);
        return;
    }
    writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n\r\n").as_bytes()).unwrap();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(writer, flate2::Compression::fast());
            write_text(&mut encoder, size);
            encoder.finish().unwrap();
        }
        // The largest windows that there are.
        "br" => write_text(&mut brotli::CompressorWriter::new(writer, 64 << 10, 1, 22), size),
        "zstd" => {
            let mut encoder = zstd::Encoder::new(writer, 1).unwrap();
            encoder.window_log(22).unwrap();
            write_text(&mut encoder, size);
            encoder.finish().unwrap();
        }
        other => panic!("{other}"),
    }
}

fn write_text(writer: &mut impl std::io::Write, size: u64) {
    let piece: Vec<u8> = (0..64_u32 << 10).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
    let mut left = size;
    while left > 0 {
        let len = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        writer.write_all(&piece[..len]).unwrap();
        left -= u64::try_from(len).unwrap();
    }
}

/// The number of bytes of a body in chunks.
fn count_chunks(reader: &mut BufReader<&TcpStream>) -> u64 {
    let mut count = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let len = u64::from_str_radix(line.trim_end(), 16).unwrap();
        count += len;
        std::io::copy(&mut reader.by_ref().take(len + 2), &mut std::io::sink()).unwrap();
        if len == 0 {
            return count;
        }
    }
}
