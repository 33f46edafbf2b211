//! How long a tunnel is there.

use frame_net::{LocalEndpoint, Network as _, NetworkError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pair::{ID, Pair, has_kernel_stack, left, network, on_both_stacks, right};
use crate::support::{endpoint, soon};

/// Waits until the port is free.
async fn freed(port: u16) {
    soon(async {
        while std::net::UdpSocket::bind(("127.0.0.1", port)).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

on_both_stacks! {
    async fn connections_outlive_the_place_of_their_network(stack) {
        let pair = Pair::new(stack);
        let (mut client, mut server) = pair.connected().await;
        let id = ID.parse().unwrap();
        let mut other = left(stack, "127.0.0.1:1");
        other["kind"] = json!("wireguard");
        pair.left.networks.update(&id, &serde_json::from_value(other).unwrap()).unwrap();
        assert!(pair.right.networks.unregister(&id));
        let error = pair.right.dialer.connect(&endpoint("10.9.0.1:80")).await.unwrap_err();
        assert!(matches!(error, NetworkError::NotFound { .. }));

        client.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        soon(server.read_exact(&mut received)).await.unwrap();
        server.write_all(&received).await.unwrap();
        soon(client.read_exact(&mut received)).await.unwrap();
        assert_eq!(&received, b"ping");
    }
}

on_both_stacks! {
    async fn the_socket_is_closed_when_nobody_uses_it_any_more(stack) {
        let right = network(right(stack));
        let port = right.local_address().port();
        let listener = right.listen(&LocalEndpoint::port(80)).await.unwrap();
        let datagrams = right.bind_datagram(&LocalEndpoint::port(80)).await.unwrap();
        drop(right);
        drop(datagrams);
        tokio::task::yield_now().await;
        assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err());
        drop(listener);
        freed(port).await;
    }
}

on_both_stacks! {
    async fn what_was_written_arrives_though_nobody_uses_the_tunnel_any_more(stack) {
        let right = network(right(stack));
        let left = network(left(stack, right.local_address()));
        let ports = [&left, &right].map(|network| network.local_address().port());
        let mut listener = right.listen(&LocalEndpoint::port(80)).await.unwrap();
        let to = endpoint("10.9.0.2:80");
        let (client, server) = tokio::join!(soon(left.connect(&to, None)), soon(listener.accept()));
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        let sent = vec![7; 300_000];
        client.write_all(&sent).await.unwrap();
        drop((client, left));
        let mut received = Vec::new();
        soon(server.read_to_end(&mut received)).await.unwrap();
        assert!(received == sent);
        drop((server, listener, right));
        for port in ports {
            freed(port).await;
        }
    }
}

#[test]
fn a_runtime_that_ends_takes_the_tunnel_with_it() {
    runtime_that_ends("user");
    if has_kernel_stack() {
        runtime_that_ends("kernel");
    }
}

fn runtime_that_ends(stack: &str) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let carrier = runtime();
    let (_pair, mut client, _server, mut listener) = carrier.block_on(async {
        let pair = Pair::new(stack);
        let (client, server) = pair.connected().await;
        let listener = pair.left.listen(80).await;
        (pair, client, server, listener)
    });
    drop(carrier);
    runtime().block_on(async {
        let error = soon(client.read_u8()).await.unwrap_err();
        assert!(error.to_string().contains("the task that carried the tunnel has ended"), "{error}");
        soon(client.write_all(b"x")).await.unwrap_err();
        soon(listener.accept()).await.unwrap_err();
    });
}

/// Set in a process that ends while its helper is stopped.
#[cfg(target_os = "linux")]
const INSIDE: &str = "FRAME_NET_HELPER_STOPPED";

#[test]
#[cfg(target_os = "linux")]
fn a_stopped_helper_ends_with_its_program() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::process::{Command, Stdio};

    if !has_kernel_stack() {
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The thread that makes the network may end before it does.
        let make = || {
            let _inside = runtime.enter();
            network(left("kernel", "127.0.0.1:1"))
        };
        let network = std::thread::scope(|scope| scope.spawn(make).join().unwrap());
        runtime.block_on(network.bind_datagram(&LocalEndpoint::default())).unwrap();
        println!("\nready");
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    }
    for is_killed in [true, false] {
        let name = "lifetime::a_stopped_helper_ends_with_its_program";
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = BufReader::new(program.stdout.take().unwrap());
        assert!(shown.lines().any(|line| line.unwrap() == "ready"));
        let helper = helper_of(program.id());
        let stopped = Command::new("kill").args(["-STOP", &helper.to_string()]).status();
        assert!(stopped.unwrap().success());
        if is_killed {
            program.kill().unwrap();
        } else {
            program.stdin.take().unwrap().write_all(b"x").unwrap();
        }
        program.wait().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Until something waits for it, it is a zombie.
        while status(helper).is_some_and(|status| !status.contains("State:\tZ")) {
            assert!(std::time::Instant::now() < until, "the helper is there though its program is not");
            std::thread::yield_now();
        }
    }
}

#[cfg(target_os = "linux")]
fn status(process: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{process}/status")).ok()
}

/// The helper that a process has started.
#[cfg(target_os = "linux")]
fn helper_of(program: u32) -> u32 {
    let parent = format!("PPid:\t{program}\n");
    let is_child = |process: &u32| status(*process).is_some_and(|status| status.contains(&parent));
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.find(is_child).expect("a helper")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_helper_is_found_by_its_name() {
    if !has_kernel_stack() {
        return;
    }
    let _network = network(left("kernel", "127.0.0.1:1"));
    let parent = format!("PPid:\t{}\n", std::process::id());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    // Others come and go meanwhile.
    let mut status =
        processes.filter_map(|process| std::fs::read_to_string(process.path().join("status")).ok());
    assert!(status.any(|status| status.starts_with("Name:\tframe-wireguard\n") && status.contains(&parent)));
}
