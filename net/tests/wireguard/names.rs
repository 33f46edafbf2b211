//! Names are asked for inside the tunnel, or not at all.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::time::Duration;

use frame_net::http::{HttpClient, HttpConfig, HttpError, Request};
use frame_net::wireguard::Refusal;
use frame_net::{
    BoxDatagrams, BoxListener, Cause, DeniedBy, DriverStep, LimitedResource, LocalEndpoint, Network as _,
    NetworkError,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pair::{ID, Pair, Side, cause, left, network, on_both_stacks, right};
use crate::support::{Bait, endpoint, soon};

const A: u8 = 1;

/// A pair whose left end asks the right one.
fn with_server(stack: &str) -> Pair {
    Pair::with(stack, |left, _| left["dns"] = json!(["10.9.0.2"]))
}

/// The answer to a query: `host.example` is at these addresses, and there is no other name.
fn answer(query: &[u8], flags: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    let kind = query[query.len() - 3];
    let is_known = query[12..].starts_with(b"\x04host\x07example\0");
    (answer[2], answer[3]) = (0x81 | flags, if is_known { 0x80 } else { 0x83 });
    if kind == A && is_known && flags == 0 {
        // The first of them is nobody's.
        for last in [9, 2] {
            answer[7] += 1;
            answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x09\0");
            answer.push(last);
        }
    }
    answer
}

async fn serve_datagrams(port: BoxDatagrams, flags: u8) {
    let mut buffer = [0; 512];
    loop {
        let (len, from) = port.receive_from(&mut buffer).await.unwrap();
        let from = endpoint(&from.to_string());
        // What somebody makes up who does not know the question is not believed.
        let mut wrong = answer(&buffer[..len], 0);
        wrong[0] ^= 1;
        port.send_to(&wrong, &from).await.unwrap();
        port.send_to(&answer(&buffer[..len], flags), &from).await.unwrap();
    }
}

async fn serve_streams(mut listener: BoxListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut query).await.unwrap();
        let answer = answer(&query, 0);
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

on_both_stacks! {
    async fn without_a_server_in_the_tunnel_nobody_is_asked(stack) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let left = Side::new(left(stack, peer.local_addr().unwrap()));
        let bait = Bait::new();
        for name in ["localhost", "host.example"] {
            let error = left.connect(&format!("{name}:{}", bait.endpoint().port())).await.unwrap_err();
            assert!(matches!(&error, NetworkError::Connect { source, .. } if source.step() == DriverStep::Lookup));
            assert!(matches!(cause(&error), Cause::WireGuard(Refusal::NoNameServer)), "{error:?}");
            let error = left.dialer.lookup(&name.parse().unwrap()).await.unwrap_err();
            let is_refused = matches!(cause(&error), Cause::WireGuard(Refusal::NoNameServer));
            assert!(is_refused && !error.is_retryable(), "{error:?}");
        }
        bait.assert_untouched();
        let nothing = peer.recv(&mut [0; 1]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}

on_both_stacks! {
    async fn a_name_is_looked_up_in_the_tunnel_and_what_no_peer_owns_is_left_out(stack) {
        let pair = with_server(stack);
        let port = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        tokio::spawn(serve_datagrams(port, 0));
        let found = soon(pair.left.dialer.lookup(&"Host.example".parse().unwrap())).await.unwrap();
        assert_eq!(found, ["10.9.0.9", "10.9.0.2"].map(|address| address.parse::<std::net::IpAddr>().unwrap()));

        let mut listener = pair.right.listen(80).await;
        let (connected, accepted) = tokio::join!(pair.left.connect("host.example:80"), soon(listener.accept()));
        assert!(connected.is_ok() && accepted.is_ok());

        let server = pair.right.dialer.bind_datagram(&LocalEndpoint::port(54)).await.unwrap();
        let client = pair.left.dialer.bind_datagram(&LocalEndpoint::default()).await.unwrap();
        soon(client.send_to(b"x", &endpoint("host.example:54"))).await.unwrap();
        assert_eq!(soon(server.receive_from(&mut [0; 1])).await.unwrap().0, 1);
    }
}

on_both_stacks! {
    async fn a_name_that_is_not_there_is_refused(stack) {
        let pair = with_server(stack);
        let port = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        tokio::spawn(serve_datagrams(port, 0));
        let error = pair.left.connect("nowhere.example:80").await.unwrap_err();
        assert!(matches!(cause(&error), Cause::WireGuard(Refusal::NoAddress)), "{error:?}");
        assert!(!error.is_retryable());
    }
}

on_both_stacks! {
    async fn an_answer_that_is_too_long_for_a_datagram_comes_by_stream(stack) {
        let pair = with_server(stack);
        let port = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        tokio::spawn(serve_datagrams(port, 2));
        tokio::spawn(serve_streams(pair.right.listen(53).await));
        let found = soon(pair.left.dialer.lookup(&"host.example".parse().unwrap())).await.unwrap();
        assert_eq!(found.len(), 2);
    }
}

on_both_stacks! {
    async fn a_server_that_is_silent_is_waited_for_until_the_deadline(stack) {
        let pair = Pair::with(stack, |left, _| {
            left["dns"] = json!(["10.9.0.2"]);
            left["deadline"] = json!("300ms");
        });
        let _silent = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let error = soon(pair.left.dialer.lookup(&"host.example".parse().unwrap())).await.unwrap_err();
        assert!(matches!(cause(&error), Cause::TimedOut { .. }) && error.is_retryable(), "{error:?}");
    }
}

on_both_stacks! {
    async fn names_that_are_looked_up_in_the_tunnel_count_as_lookups(stack) {
        const MOST: usize = 4;
        let right = network(right(stack));
        let silent = right.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        let mut left = left(stack, right.local_address());
        (left["kind"], left["dns"]) = (json!("wireguard"), json!(["10.9.0.2"]));
        let limits = json!({ "lookups_per_unit": MOST });
        let left = Side::in_app(json!({ "networks": { ID: left }, "limits": limits }));
        let mut lookups = JoinSet::new();
        for number in 0..3 * MOST {
            let dialer = left.dialer.clone();
            lookups.spawn(async move { dialer.lookup(&format!("n{number}.example").parse().unwrap()).await });
        }
        // The others wait for the name server.
        for _ in 0..2 * MOST {
            let error = soon(lookups.join_next()).await.unwrap().unwrap().unwrap_err();
            let is_limit = |cause: &Cause| matches!(cause, Cause::Limit(limit) if limit.resource == LimitedResource::Lookups);
            assert!(is_limit(cause(&error)), "{error:?}");
        }
        let to = endpoint("connected.example:80");
        assert!(matches!(cause(&left.dialer.connect(&to).await.unwrap_err()), Cause::Limit(_)));
        // Each question has arrived by then, so its socket is open.
        let mut asked = HashSet::new();
        let mut buffer = [0; 512];
        while asked.len() < 2 * MOST {
            let (len, from) = soon(silent.receive_from(&mut buffer)).await.unwrap();
            asked.insert((buffer[..len].to_vec(), from.port));
        }
        let ports: HashSet<_> = asked.iter().map(|(_, port)| port).collect();
        assert_eq!(ports.len(), MOST, "both questions of a lookup come from one port");
        lookups.shutdown().await;
        let found = timeout(Duration::from_millis(50), left.dialer.lookup(&"again.example".parse().unwrap())).await;
        assert!(found.is_err(), "lookups that were cancelled make room");
    }
}

/// Redirects to `host.example`, which answers.
async fn serve_redirects(mut listener: BoxListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let is_there = String::from_utf8(head).unwrap().contains("host.example");
        let first = if is_there { "200 OK" } else { "302 Found\r\nLocation: http://host.example/" };
        let answer = format!("HTTP/1.1 {first}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

on_both_stacks! {
    async fn a_redirect_leads_to_a_private_name_in_the_tunnel_from_a_private_host_alone(stack) {
        let pair = Pair::with(stack, |left, right| {
            left["dns"] = json!(["10.9.0.2"]);
            left["peers"][0]["allowed_ips"] = json!(["10.9.0.2", "8.8.8.8"]);
            right["addresses"] = json!(["10.9.0.2/24", "8.8.8.8/32"]);
        });
        let port = pair.right.dialer.bind_datagram(&LocalEndpoint::port(53)).await.unwrap();
        tokio::spawn(serve_datagrams(port, 0));
        tokio::spawn(serve_redirects(pair.right.listen(80).await));
        let client = HttpClient::new(HttpConfig::default()).unwrap();
        let get = async |host: &str| {
            let request = Request::get(&format!("http://{host}/")).unwrap();
            soon(client.send(&pair.left.dialer, request)).await
        };
        assert_eq!(get("10.9.0.2").await.unwrap().status(), 200);
        let error = get("8.8.8.8").await.unwrap_err();
        let HttpError::Network(error) = &error else { panic!("{error:?}") };
        let Cause::Denied(denied) = cause(error) else { panic!("{error:?}") };
        assert!(matches!(denied.by(), DeniedBy::Redirected(_)), "{denied}");
    }
}
