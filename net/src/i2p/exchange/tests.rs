//! The machine, against answers in pieces and against noise.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::secret::Secret;

const ID: &str = "frame-1";

/// 391 bytes, as those of a destination with an Ed25519 key.
fn destination() -> String {
    format!("{}BQAEAAcAAA==", "A".repeat(512))
}

/// The same with 288 bytes behind it.
fn private_key() -> String {
    format!("{}BQAEAAcAA{}", "A".repeat(512), "A".repeat(387))
}

fn key() -> LocalDestination {
    LocalDestination::PrivateKey(PrivateKey::new(Secret::new(private_key())).unwrap())
}

fn transient() -> LocalDestination {
    LocalDestination::default()
}

fn connect() -> Request<'static> {
    Request::Connect { id: ID, to: "stats.i2p", port: 80 }
}

/// Everything that was sent, how much of the input was taken, and the outcome as text.
type Played = (String, usize, Option<Result<SamReply, String>>);

/// Feeds `input` in pieces that end at `cuts`, the rest in one.
fn play(request: Request<'_>, credentials: Option<&SamCredentials>, input: &[u8], cuts: &[usize]) -> Played {
    let mut exchange = Exchange::new(request, credentials);
    let (mut sent, mut taken) = (Vec::new(), 0);
    loop {
        match exchange.action() {
            Action::Send(bytes) => {
                sent.extend(bytes);
                // Not listened to before its time.
                assert_eq!(exchange.receive(&input[taken..]), 0);
                exchange.sent();
            }
            Action::Receive if taken < input.len() => {
                let end = cuts.iter().copied().find(|&cut| cut > taken).unwrap_or(input.len());
                let now = exchange.receive(&input[taken..end.min(input.len())]);
                let has_failed = exchange.action() == Action::Finish;
                assert!(now > 0 || has_failed, "a byte that is asked for is taken");
                taken += now;
            }
            Action::Receive | Action::Finish => break,
        }
    }
    let outcome = exchange.into_outcome().map(|outcome| outcome.map_err(|error| error.to_string()));
    (String::from_utf8(sent).unwrap(), taken, outcome)
}

fn answered(request: Request<'_>, input: &str) -> Played {
    play(request, None, input.as_bytes(), &[])
}

const HELLO: &str = "HELLO VERSION MIN=3.1 MAX=3.3\n";
const HELLO_REPLY: &str = "HELLO REPLY RESULT=OK VERSION=3.1\n";

#[test]
fn a_session_is_transient_or_has_its_key() {
    let options = SessionOptions::default().with("inbound.length", "0").unwrap().with("a", "b").unwrap();
    let input = format!("{HELLO_REPLY}SESSION STATUS RESULT=OK DESTINATION={}\n", private_key());
    for (destination, asked) in [
        (transient(), "TRANSIENT SIGNATURE_TYPE=7".to_owned()),
        (LocalDestination::Transient { signature_type: 11 }, "TRANSIENT SIGNATURE_TYPE=11".to_owned()),
        (key(), private_key()),
    ] {
        let request = Request::Session { id: ID, destination: &destination, options: &options };
        let (sent, taken, outcome) = answered(request, &input);
        let expected = format!(
            "{HELLO}SESSION CREATE STYLE=STREAM ID=frame-1 DESTINATION={asked} a=b inbound.length=0\n"
        );
        assert_eq!((sent, taken), (expected, input.len()));
        let Some(Ok(SamReply::Session(given))) = outcome else { panic!("{outcome:?}") };
        assert_eq!(given.expose(), private_key());
    }
}

#[test]
fn what_comes_behind_the_answer_is_not_touched() {
    let input = format!("{HELLO_REPLY}STREAM STATUS RESULT=OK\nSTREAM STATUS RESULT=TIMEOUT\n\0");
    let (sent, taken, outcome) = answered(connect(), &input);
    let expected = "STREAM CONNECT ID=frame-1 DESTINATION=stats.i2p SILENT=false\n";
    assert_eq!(sent, format!("{HELLO}{expected}"));
    assert_eq!(
        (&input[taken..], outcome),
        ("STREAM STATUS RESULT=TIMEOUT\n\0", Some(Ok(SamReply::Connected)))
    );
}

#[test]
fn ports_are_given_to_who_knows_them() {
    for (version, expected) in [("3.1", ""), ("3.2", " TO_PORT=80"), ("3.3", " TO_PORT=80")] {
        let (sent, ..) = answered(connect(), &format!("HELLO REPLY RESULT=OK VERSION={version}\n"));
        let request = sent.strip_prefix(HELLO).unwrap();
        let asked = "STREAM CONNECT ID=frame-1 DESTINATION=stats.i2p SILENT=false";
        assert_eq!(request, format!("{asked}{expected}\n"));
    }
}

#[test]
fn an_incoming_connection_says_who_it_is() {
    let destination = destination();
    for (line, ports) in [
        (destination.clone(), (0, 0)),
        (format!("{destination} FROM_PORT=5 TO_PORT=80"), (5, 80)),
        (format!("{destination} TO_PORT=80 NEW=thing"), (0, 80)),
    ] {
        let input = format!("{HELLO_REPLY}STREAM STATUS RESULT=OK\n{line}\npayload");
        let (sent, taken, outcome) = answered(Request::Accept { id: ID }, &input);
        assert_eq!(sent, format!("{HELLO}STREAM ACCEPT ID=frame-1 SILENT=false\n"));
        assert_eq!(&input[taken..], "payload");
        let Some(Ok(SamReply::Incoming(incoming))) = outcome else { panic!("{outcome:?}") };
        assert_eq!(incoming.from.to_string(), destination);
        assert_eq!((incoming.from_port, incoming.to_port), ports);
    }
}

#[test]
fn an_incoming_connection_that_does_not_come_is_an_error() {
    let fails = |line: &str| {
        let input = format!("{HELLO_REPLY}STREAM STATUS RESULT=OK\n{line}\n");
        answered(Request::Accept { id: ID }, &input).2.unwrap().unwrap_err()
    };
    assert!(fails("STREAM STATUS RESULT=I2P_ERROR MESSAGE=\"closed\"").ends_with("it says: closed"));
    assert!(fails("STREAM STATUS RESULT=OK").contains("no destination"));
    assert!(fails("abc").contains("is none"));
    assert!(fails(&format!("{} TO_PORT=65536", destination())).contains("a port is none"));
    assert!(fails("").contains("is none"));
}

#[test]
fn credentials_are_in_the_greeting_and_cannot_break_out_of_it() {
    let credentials = SamCredentials::new("a \"b\" \\", Secret::new("x y=z")).unwrap();
    let (sent, ..) = play(connect(), Some(&credentials), b"", &[]);
    assert_eq!(sent, "HELLO VERSION MIN=3.1 MAX=3.3 USER=\"a \\\"b\\\" \\\\\" PASSWORD=\"x y=z\"\n");
}

#[test]
fn a_ping_is_answered_wherever_it_comes() {
    let input = format!("PING 1\n{HELLO_REPLY}PING\nSTREAM STATUS RESULT=OK\nPING payload\n");
    let (sent, taken, outcome) = answered(connect(), &input);
    let asked = "STREAM CONNECT ID=frame-1 DESTINATION=stats.i2p SILENT=false\n";
    assert_eq!(sent, format!("{HELLO}PONG 1\n{asked}PONG\n"));
    assert_eq!((&input[taken..], outcome), ("PING payload\n", Some(Ok(SamReply::Connected))));
}

#[test]
fn what_is_no_answer_fails_at_once() {
    let fails = |input: &str| {
        let (_, taken, outcome) = answered(connect(), input);
        (outcome.unwrap().unwrap_err(), taken)
    };
    assert!(fails("HTTP/1.1 400 Bad Request\r\n\r\n").0.contains("`HTTP/1.1 400`"));
    assert!(fails("HELLO REPLY RESULT=NOVERSION\n").0.contains("3.1 to 3.3"));
    assert!(fails("HELLO REPLY RESULT=I2P_ERROR MESSAGE=\"no user\"\n").0.contains("no user"));
    assert!(fails("HELLO REPLY VERSION=3.1\n").0.contains("no result"));
    for version in ["3.0", "3.4", "4.1", "", "x\x1b"] {
        let error = fails(&format!("HELLO REPLY RESULT=OK VERSION={version}\n")).0;
        assert!(error.contains("chose version") && !error.contains('\x1b'), "{error}");
    }
    assert!(fails(&format!("{HELLO_REPLY}NAMING REPLY RESULT=OK\n")).0.contains("`STREAM STATUS`"));
    assert!(fails(&format!("{HELLO_REPLY}STREAM STATUS RESULT=OK RESULT=OK\n")).0.contains("twice"));
    let endless = "x".repeat(message::MAX_LEN + 1);
    assert_eq!(fails(&endless).1, 0);
    assert!(fails(&endless).0.contains("65536 bytes"));
    let options = SessionOptions::default();
    let request = Request::Session { id: ID, destination: &transient(), options: &options };
    let (_, _, outcome) = answered(request, &format!("{HELLO_REPLY}SESSION STATUS RESULT=OK\n"));
    assert!(outcome.unwrap().unwrap_err().contains("no destination"));
}

/// Lines that come close to those of a bridge.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let pair = prop_oneof![
        Just("RESULT=OK".to_owned()),
        Just("VERSION=3.2".to_owned()),
        Just(format!("DESTINATION={}", private_key())),
        "(RESULT|MESSAGE|VERSION|X)=?(OK|TIMEOUT|3\\.[0-9]|\"a b\"|\"|\\\\|[A-Z_]{0,9})",
    ];
    let topic = prop_oneof![
        Just("HELLO REPLY".to_owned()),
        Just("SESSION STATUS".to_owned()),
        Just("STREAM STATUS".to_owned()),
        Just("PING".to_owned()),
        Just(destination()),
    ];
    let message = (topic, proptest::collection::vec(pair, 0..4))
        .prop_map(|(topic, pairs)| format!("{topic} {}\n", pairs.join(" ")).into_bytes());
    let hello = Just(HELLO_REPLY.as_bytes().to_vec());
    let ok = Just(b"STREAM STATUS RESULT=OK\n".to_vec());
    prop_oneof![hello, ok, message, proptest::collection::vec(any::<u8>(), 0..30)]
}

proptest! {
    #[test]
    fn it_does_not_matter_in_which_pieces_answers_arrive(
        lines in proptest::collection::vec(line(), 0..6),
        greeted in any::<bool>(),
        cuts in proptest::collection::vec(any::<Index>(), 0..12),
        which in 0..3,
    ) {
        let mut input = if greeted { HELLO_REPLY.as_bytes().to_vec() } else { Vec::new() };
        input.extend(lines.concat());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let (options, transient) = (SessionOptions::default(), transient());
        let request = match which {
            0 => Request::Session { id: ID, destination: &transient, options: &options },
            1 => connect(),
            _ => Request::Accept { id: ID },
        };
        let whole = play(request, None, &input, &[]);
        prop_assert_eq!(&play(request, None, &input, &cuts), &whole);
        let (sent, taken, outcome) = whole;
        prop_assert!(sent.ends_with('\n') && taken <= input.len());
        if outcome.is_none() {
            prop_assert_eq!(taken, input.len(), "all that was received is used before more is asked for");
        }
    }
}
