use proptest::prelude::*;

use super::*;

fn query(text: &str) -> Query {
    Query::new(7, &text.parse().unwrap(), false).unwrap()
}

/// An answer to the question, with these records in it: a name, a type and the data.
fn answer(query: &Query, flags: [u8; 2], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
    let mut message = query.to_bytes();
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
    let query = query("Host.Example.");
    assert_eq!(&query.to_bytes()[12..], b"\x04host\x07example\0\0\x01\0\x01");
    let message = answer(&query, RESPONSE, &[(ASKED, 1, &[10, 0, 0, 1]), (ASKED, 1, &[10, 0, 0, 2])]);
    let expected = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
    assert_eq!(query.answer(&message), Some(Answer::Addresses(expected.to_vec())));
}

#[test]
fn an_alias_is_followed_and_what_was_not_asked_for_is_not() {
    let query = query("a.example");
    let records: &[(&[u8], u16, &[u8])] = &[
        (b"\x05other\0", 1, &[10, 0, 0, 9]),
        (b"\x01b\0", 5, b"\x01C\0"),
        (ASKED, 5, b"\x01b\0"),
        (b"\x01c\0", 1, &[10, 0, 0, 1]),
        (b"\x01c\0", 28, &[0; 16]),
    ];
    let address = "10.0.0.1".parse().unwrap();
    assert_eq!(query.answer(&answer(&query, RESPONSE, records)), Some(Answer::Addresses(vec![address])));
}

#[test]
fn an_alias_of_itself_leads_nowhere() {
    let query = query("a");
    let message = answer(&query, RESPONSE, &[(ASKED, 5, b"\x01a\0")]);
    assert_eq!(query.answer(&message), Some(Answer::Addresses(vec![])));
}

#[test]
fn an_answer_to_another_question_is_none() {
    let query = query("a");
    for other in [
        answer(&Query { id: 8, ..self::query("a") }, RESPONSE, &[]),
        answer(&self::query("b"), RESPONSE, &[]),
        answer(&Query::new(7, &"a".parse().unwrap(), true).unwrap(), RESPONSE, &[]),
        answer(&query, [1, 0], &[]),
        answer(&query, [0x91, 0x80], &[]),
        query.to_bytes()[..11].to_vec(),
    ] {
        assert_eq!(query.answer(&other), None, "{other:?}");
    }
}

#[test]
fn a_server_that_cannot_says_so() {
    let query = query("a");
    assert_eq!(query.answer(&answer(&query, [0x83, 0x80], &[])), Some(Answer::Truncated));
    assert_eq!(query.answer(&answer(&query, [0x81, 0x82], &[])), Some(Answer::Failed(2)));
    // No such name.
    assert_eq!(query.answer(&answer(&query, [0x81, 0x83], &[])), Some(Answer::Addresses(vec![])));
}

#[test]
fn a_name_that_no_message_has_room_for_is_not_asked_for() {
    let asks = |text: &str| Query::new(0, &text.parse().unwrap(), false).is_some();
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
        let query = query("host.example");
        let _ = query.answer(&rest);
        let mut message = answer(&query, RESPONSE, &[(ASKED, 1, &[10, 0, 0, 1]), (ASKED, 5, b"\xc0\x0c")]);
        let at = at.index(message.len());
        for (byte, change) in message[at..].iter_mut().zip(start) {
            *byte ^= change;
        }
        message.extend(rest);
        let _ = query.answer(&message);
    }
}
