use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{RData, Record};
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;

fn servers(text: &str, addresses: &[SocketAddr]) -> Servers {
    let mut servers = Servers::parse(text.as_bytes());
    servers.addresses = addresses.to_vec();
    servers
}

fn names(text: &str, name: &str) -> Vec<String> {
    candidates(&servers(text, &[]), name).iter().map(Name::to_string).collect()
}

#[test]
fn domains_are_appended_as_the_c_library_does() {
    let text = "search a.example b.example\noptions ndots:2\n";
    assert_eq!(names(text, "db"), ["db.a.example.", "db.b.example.", "db."]);
    assert_eq!(names(text, "x.db"), ["x.db.a.example.", "x.db.b.example.", "x.db."]);
    assert_eq!(names(text, "y.x.db"), ["y.x.db.", "y.x.db.a.example.", "y.x.db.b.example."]);
    assert_eq!(names(text, "db."), ["db."]);
    assert_eq!(names(text, &"a".repeat(64)), [""; 0]);
}

/// A name server that answers as it is told, over UDP and TCP.
async fn server(answer: impl Fn(Message, bool) -> Option<Message> + Send + Clone + 'static) -> SocketAddr {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let answers = answer.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
            if let Some(message) = answers(Message::from_vec(&buffer[..len]).unwrap(), false) {
                udp.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            while let Ok(len) = stream.read_u16().await {
                let mut question = vec![0; len.into()];
                stream.read_exact(&mut question).await.unwrap();
                let Some(message) = answer(Message::from_vec(&question).unwrap(), true) else { break };
                let bytes = message.to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    address
}

/// The answer to `question`, with the addresses of its kind.
fn answered(question: &Message, addresses: &[&str]) -> Message {
    let name = question.queries[0].name().clone();
    let mut message = reply(question);
    for address in addresses {
        let data = match address.parse().unwrap() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        if data.record_type() == question.queries[0].query_type() {
            message.add_answer(Record::from_rdata(name.clone(), 60, data));
        }
    }
    message
}

fn reply(question: &Message) -> Message {
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    message.add_query(question.queries[0].clone());
    message
}

fn with_code(question: &Message, code: ResponseCode) -> Message {
    let mut message = reply(question);
    message.metadata.response_code = code;
    message
}

async fn resolved(servers: &Servers, name: &str) -> Result<Vec<String>, String> {
    let found = resolve(servers, name).await.map_err(|error| error.to_string())?;
    Ok(found.iter().map(IpAddr::to_string).collect())
}

#[tokio::test]
async fn both_kinds_of_addresses_are_found() {
    let server =
        server(|question, _| Some(answered(&question, &["192.0.2.1", "2001:db8::1", "192.0.2.2"]))).await;
    let found = resolved(&servers("", &[server]), "h.example").await;
    assert_eq!(found.unwrap(), ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
}

#[tokio::test]
async fn a_long_answer_is_fetched_over_tcp() {
    let server = server(|question, is_tcp| {
        let mut message =
            answered(&question, if is_tcp { &["192.0.2.1", "192.0.2.2"] } else { &["192.0.2.1"] });
        message.metadata.truncation = !is_tcp;
        Some(message)
    })
    .await;
    assert_eq!(resolved(&servers("", &[server]), "h.example").await.unwrap(), ["192.0.2.1", "192.0.2.2"]);
    let over_tcp = servers("options use-vc", &[server]);
    assert_eq!(resolved(&over_tcp, "h.example").await.unwrap(), ["192.0.2.1", "192.0.2.2"]);
}

#[tokio::test]
async fn an_alias_is_followed_and_nothing_else_in_the_answer_is_taken() {
    let server = server(|question, _| {
        let name = |text| Name::from_ascii(text).unwrap();
        let mut message = reply(&question);
        let alias = RData::CNAME(CNAME(name("target.example.")));
        message.add_answer(Record::from_rdata(question.queries[0].name().clone(), 60, alias));
        for (owner, address) in [("Target.example.", [192, 0, 2, 1]), ("other.example.", [10, 0, 0, 1])] {
            message.add_answer(Record::from_rdata(name(owner), 60, RData::A(A(address.into()))));
        }
        Some(message)
    })
    .await;
    assert_eq!(resolved(&servers("", &[server]), "h.example").await.unwrap(), ["192.0.2.1"]);
}

#[tokio::test]
async fn the_next_name_and_the_next_server_are_tried() {
    let refuses = server(|question, _| Some(with_code(&question, ResponseCode::ServFail))).await;
    let knows = server(|question, _| {
        let is_known = question.queries[0].name().to_string() == "db.b.example.";
        Some(if is_known {
            answered(&question, &["192.0.2.1"])
        } else {
            with_code(&question, ResponseCode::NXDomain)
        })
    })
    .await;
    let servers = servers("search a.example b.example", &[refuses, knows]);
    assert_eq!(resolved(&servers, "db").await.unwrap(), ["192.0.2.1"]);
    assert_eq!(resolved(&servers, "other").await.unwrap_err(), "the name has no address");
}

#[tokio::test]
async fn a_server_that_refuses_one_kind_has_answered_the_other() {
    let server = server(|question, _| {
        let is_v6 = question.queries[0].query_type() == RecordType::AAAA;
        Some(if is_v6 {
            with_code(&question, ResponseCode::NotImp)
        } else {
            answered(&question, &["192.0.2.1"])
        })
    })
    .await;
    assert_eq!(resolved(&servers("", &[server]), "h.example").await.unwrap(), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_lost_question_is_sent_again_before_the_time_of_the_server_has_passed() {
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let counts = Arc::clone(&seen);
    let server = server(move |question, _| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry((question.metadata.id, question.queries[0].query_type())).or_insert(0);
        *count += 1;
        // The first of each kind is lost.
        (*count > 1).then(|| answered(&question, &["192.0.2.1", "2001:db8::1"]))
    })
    .await;
    // One try, so a second question can only be the first one again.
    let servers = servers("options timeout:30 attempts:1", &[server]);
    assert_eq!(resolved(&servers, "h.example").await.unwrap(), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(seen.lock().unwrap().len(), 2, "it is the same question, with the same id");
}

#[tokio::test]
async fn what_is_not_the_answer_to_the_question_is_not_taken() {
    let question = Question::new(&Name::from_ascii("h.example.").unwrap(), RecordType::A, false);
    let asked = Message::from_vec(question.message()).unwrap();
    let answer = answered(&asked, &["192.0.2.1"]);
    let mut others = vec![asked.clone()];
    let mut other_id = answer.clone();
    other_id.metadata.id ^= 1;
    others.push(other_id);
    let mut other_name = answer.clone();
    other_name.queries[0].set_name(Name::from_ascii("g.example.").unwrap());
    others.push(other_name);
    let mut other_kind = answer.clone();
    other_kind.queries[0].set_query_type(RecordType::AAAA);
    others.push(other_kind);
    let mut asked = [question];
    for other in others {
        assign(&mut asked, &other.to_vec().unwrap());
        assert_eq!(asked[0].answer, None, "{other}");
    }
    assign(&mut asked, &answer.to_vec().unwrap());
    assert_eq!(asked[0].answer, Some(DnsAnswer::Addresses(vec!["192.0.2.1".parse().unwrap()])));
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_at_once() {
    let down = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = resolve(&servers("", &[down]), "h.example").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

proptest! {
    #[test]
    fn no_message_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut asked = [Question::new(&Name::from_ascii("h.example.").unwrap(), RecordType::A, true)];
        assign(&mut asked, &bytes);
        // Behind the question, too.
        let question = asked[0].message().to_vec();
        let mut message = question.clone();
        message[2] |= 0x80;
        message[7] = 3;
        message.extend(bytes);
        assign(&mut asked, &message);
    }
}
