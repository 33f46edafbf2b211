//! How much memory the program takes whose script moves large files.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::run::{App, one_worker};

/// How many bytes go each way.
const SIZE: u64 = 96 << 20;

/// How much more the program may take than before it begins, in KiB.
const MOST_KIB: u64 = 32 << 10;

const SCRIPT: &str = "
    local base = 'BASE'
    log.info('waits')
    http.get(base .. '/begin')
    local response <close> = http.get(base .. '/down', { stream = true })
    log.info('saved ' .. response.body:save('file'))
    local put = http.request { method = 'PUT', url = base .. '/up', file = 'file' }
    log.info('sent ' .. put.body)
    local form = { note = 'x', file = { file = 'file' } }
    log.info('posted ' .. http.post(base .. '/up', nil, { multipart = form }).body)
    log.info('is done')
    repeat local message = process.receive() until message.kind == 'cancelled'";

/// Serves `/begin` once it is told to, `/down`, and `/up`, which counts the bytes of its body.
fn serve(stream: &TcpStream, begin: &Mutex<Receiver<()>>) -> Option<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut path, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
            length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
        }
        let mut respond = |body: &str| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            writer.write_all(head.as_bytes()).ok()
        };
        match path?.as_str() {
            "/begin" => {
                begin.lock().ok()?.recv().ok()?;
                respond("")?;
            }
            "/up" => {
                let count = std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
                respond(&count.to_string())?;
            }
            _ => {
                writer
                    .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
                    .ok()?;
                std::io::copy(&mut std::io::repeat(7).take(SIZE), &mut writer).ok()?;
            }
        }
    }
}

fn start(begin: Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let begin = Arc::new(Mutex::new(begin));
    thread::spawn(move || {
        // A request that begins before the last connection is idle again takes another.
        for stream in listener.incoming() {
            let (stream, begin) = (stream.unwrap(), Arc::clone(&begin));
            thread::spawn(move || serve(&stream, &begin));
        }
    });
    address
}

/// The most memory that the process has taken so far, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is one of the lines");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_script_that_moves_large_files_takes_little_memory() {
    let (begins, begin) = channel();
    let base = format!("http://{}", start(begin));
    let manifest = one_worker()
        .replace("source = \"worker.lua\"", "source = \"worker.lua\"\noptions = { fs_root = \".\" }");
    let manifest = format!("{manifest}[clearnet]\nallow = [\"127.0.0.0/8\"]\n[fs]\nbase = \"data\"\n");
    let app = App::new(&manifest, &[("worker.lua", &SCRIPT.replace("BASE", &base))]);
    fs::create_dir(app.path().join("data")).expect("it is made");
    let mut run = app.run(&[]);
    run.wait_for("waits");
    let idle = peak(run.child.id());
    begins.send(()).expect("the server waits");
    run.wait_for("is done");
    let moved = peak(run.child.id());
    println!("idle {idle} KiB, moved {moved} KiB");
    assert!(
        run.has_said(&format!("saved {SIZE}")) && run.has_said(&format!("sent {SIZE}")),
        "{:?}",
        run.said
    );
    assert!(moved < idle + MOST_KIB, "a peak of {moved} KiB, and {idle} KiB before");
    run.stop();
}
