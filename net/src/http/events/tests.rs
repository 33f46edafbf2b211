use proptest::prelude::*;

use super::*;

/// The events of `text`, which arrives in pieces of `size` bytes, and the parser after that.
fn parsed(text: &[u8], size: usize) -> (Vec<Event>, EventParser) {
    let mut parser = EventParser::new(MAX_EVENT);
    let mut events = Vec::new();
    for input in text.chunks(size) {
        let mut input = Bytes::copy_from_slice(input);
        while let Some(event) = parser.next(&mut input).unwrap() {
            events.push(event);
        }
        assert!(input.is_empty());
    }
    (events, parser)
}

fn event(event: &str, data: &str, id: &str) -> Event {
    Event { event: event.to_owned(), data: data.to_owned(), id: id.to_owned() }
}

#[track_caller]
fn assert_events(text: &[u8], expected: &[Event]) {
    for size in 1..=text.len().max(1) {
        assert_eq!(parsed(text, size).0, expected, "{size}");
    }
}

#[test]
fn the_examples_of_the_standard_are_read_as_it_says() {
    assert_events(b"data: YHOO\ndata: +2\ndata: 10\n\n", &[event("message", "YHOO\n+2\n10", "")]);
    assert_events(
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        &[
            event("message", "first event", "1"),
            event("message", "second event", ""),
            event("message", " third event", ""),
        ],
    );
    assert_events(b"data\n\ndata\ndata\n\ndata:", &[event("message", "", ""), event("message", "\n", "")]);
    assert_events(
        b"data:test\n\ndata: test\n\n",
        &[event("message", "test", ""), event("message", "test", "")],
    );
}

#[test]
fn lines_end_with_cr_lf_or_both() {
    let expected = [event("a", "1\n2", "x"), event("message", "3", "x")];
    for end in ["\n", "\r", "\r\n"] {
        let text = "event: a\ndata: 1\ndata: 2\nid: x\n\ndata: 3\n\n".replace('\n', end);
        assert_events(text.as_bytes(), &expected);
    }
    assert_events(b"data: 1\r\n\rdata: 2\n\r\n", &[event("message", "1", ""), event("message", "2", "")]);
}

#[test]
fn a_byte_order_mark_is_skipped_once_and_only_in_front() {
    assert_events("\u{feff}data: 1\n\n".as_bytes(), &[event("message", "1", "")]);
    assert_events("\u{feff}\u{feff}data: 1\n\n".as_bytes(), &[]);
    assert_events("data: 1\n\u{feff}data: 2\n\n".as_bytes(), &[event("message", "1", "")]);
}

#[test]
fn an_id_lasts_until_the_next_and_has_no_nul() {
    assert_events(
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid: 3\n\ndata: d\n\n",
        &[
            event("message", "a", "1"),
            event("message", "b", "1"),
            event("message", "c", "1"),
            event("message", "d", "3"),
        ],
    );
    // It counts with the end of its event, which may have no data.
    assert_eq!(parsed(b"id: 7\n", 100).1.last_id, "");
    assert_eq!(parsed(b"id: 7\n\n", 100).1.last_id, "7");
}

#[test]
fn the_time_to_reconnect_is_a_number_of_milliseconds() {
    let retry = |text: &str| parsed(format!("retry: {text}\n").as_bytes(), 3).1.retry;
    assert_eq!(retry("1500"), Some(Duration::from_millis(1500)));
    for other in ["", "-1", "1.5", "1s", " 1", "١"] {
        assert_eq!(retry(other), None, "{other}");
    }
    assert_eq!(retry(&"9".repeat(40)), Some(Duration::from_millis(u64::MAX)));
}

#[test]
fn what_is_not_utf_8_is_replaced_and_what_is_unknown_is_skipped() {
    assert_events(b"data: a\xffb\nnovel: x\nDATA: y\n\n", &[event("message", "a\u{fffd}b", "")]);
    assert_events(b"event: no data\n\ndata: 1\n\n", &[event("message", "1", "")]);
}

#[test]
fn an_event_has_a_largest_size_and_so_has_a_line() {
    for text in [
        "data: 0123456789\n".repeat(10),
        format!("data: {}", "0".repeat(100)),
        format!(":{}", "0".repeat(100)),
    ] {
        let mut parser = EventParser::new(64);
        let mut input = Bytes::from(text);
        assert_eq!(parser.next(&mut input).unwrap_err(), EventError::TooLarge { limit: 64 });
    }
    let mut parser = EventParser::new(64);
    let comments = format!(": {}\n", "0".repeat(50)).repeat(100);
    assert_eq!(parser.next(&mut Bytes::from(comments)).unwrap(), None, "they are not kept");
}

proptest! {
    #[test]
    fn how_the_text_is_cut_makes_no_difference(text in "(data|id|event|retry|: |:|x|\r|\n|\r\n|\u{feff}){0,40}", size in 1_usize..10) {
        prop_assert_eq!(parsed(text.as_bytes(), size).0, parsed(text.as_bytes(), 1000).0);
    }
}
