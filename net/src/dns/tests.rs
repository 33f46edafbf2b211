use proptest::prelude::*;

use super::*;

fn question(text: &str, kind: RecordType) -> Question {
    let mut question = Question::new(&absolute(text).unwrap(), kind, false);
    question.id = 7;
    question.message[..2].copy_from_slice(&[0, 7]);
    question
}

/// What `message` answers to a question for the IPv4 addresses of `text`.
fn answered(text: &str, message: &[u8]) -> Option<DnsAnswer> {
    let mut questions = [question(text, RecordType::A)];
    assign(&mut questions, message);
    let [question] = questions;
    question.answer
}

/// An answer to the question, with these records in it: a name, a type and the data.
fn answer(question: &Question, flags: [u8; 2], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
    let mut message = question.message().to_vec();
    message[2..4].copy_from_slice(&flags);
    message[7] = u8::try_from(records.len()).unwrap();
    for (name, kind, data) in records {
        message.extend_from_slice(name);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

/// A pointer to the name in the question.
const ASKED: &[u8] = &[0xc0, 12];
const RESPONSE: [u8; 2] = [0x81, 0x80];

#[test]
fn an_answer_has_the_addresses_of_the_name() {
    let question = question("Host.Example.", RecordType::A);
    assert_eq!(&question.message()[12..], b"\x04Host\x07Example\0\0\x01\0\x01");
    let message = answer(&question, RESPONSE, &[(ASKED, 1, &[10, 0, 0, 1]), (ASKED, 1, &[10, 0, 0, 2])]);
    let expected = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
    assert_eq!(answered("host.example", &message), Some(DnsAnswer::Addresses(expected.to_vec())));
}

#[test]
fn an_alias_is_followed_and_what_was_not_asked_for_is_not() {
    let records: &[(&[u8], u16, &[u8])] = &[
        (b"\x05other\0", 1, &[10, 0, 0, 9]),
        (b"\x01b\0", 5, b"\x01C\0"),
        (ASKED, 5, b"\x01b\0"),
        (b"\x01c\0", 1, &[10, 0, 0, 1]),
        (b"\x01c\0", 28, &[0; 16]),
    ];
    let message = answer(&question("a.example", RecordType::A), RESPONSE, records);
    let address = "10.0.0.1".parse().unwrap();
    assert_eq!(answered("a.example", &message), Some(DnsAnswer::Addresses(vec![address])));
}

#[test]
fn an_alias_of_itself_leads_nowhere() {
    let message = answer(&question("a", RecordType::A), RESPONSE, &[(ASKED, 5, b"\x01a\0")]);
    assert_eq!(answered("a", &message), Some(DnsAnswer::Addresses(vec![])));
}

#[test]
fn an_answer_to_another_question_is_none() {
    let asked = || question("a", RecordType::A);
    let mut with_other_id = asked();
    with_other_id.message[1] = 8;
    for other in [
        answer(&with_other_id, RESPONSE, &[]),
        answer(&question("b", RecordType::A), RESPONSE, &[]),
        answer(&question("a", RecordType::AAAA), RESPONSE, &[]),
        answer(&asked(), [1, 0], &[]),
        answer(&asked(), [0x91, 0x80], &[]),
        asked().message()[..11].to_vec(),
    ] {
        assert_eq!(answered("a", &other), None, "{other:?}");
    }
}

#[test]
fn a_server_that_cannot_says_so() {
    let message = |flags| answer(&question("a", RecordType::A), flags, &[]);
    assert_eq!(answered("a", &message([0x83, 0x80])), Some(DnsAnswer::Truncated));
    let refused = DnsAnswer::Refused(ResponseCode::ServFail);
    assert_eq!(answered("a", &message([0x81, 0x82])), Some(refused));
    // No such name.
    assert_eq!(answered("a", &message([0x81, 0x83])), Some(DnsAnswer::Addresses(vec![])));
}

#[test]
fn a_name_that_no_message_has_room_for_is_not_asked_for() {
    let asks = |text: &str| absolute(text).is_some();
    assert!(asks(&"a".repeat(63)) && !asks(&"a".repeat(64)));
    assert!(asks(&format!("{}ab", "a.".repeat(125))) && !asks(&format!("{}abc", "a.".repeat(126))));
}

proptest! {
    #[test]
    fn no_message_is_too_strange(
        start in prop::collection::vec(any::<u8>(), 0..8),
        rest in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
    ) {
        let _ = answered("host.example", &rest);
        let question = question("host.example", RecordType::A);
        let records: &[(&[u8], u16, &[u8])] = &[(ASKED, 1, &[10, 0, 0, 1]), (ASKED, 5, b"\xc0\x0c")];
        let mut message = answer(&question, RESPONSE, records);
        let at = at.index(message.len());
        for (byte, change) in message[at..].iter_mut().zip(start) {
            *byte ^= change;
        }
        message.extend(rest);
        let _ = answered("host.example", &message);
    }
}
