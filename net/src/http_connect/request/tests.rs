//! The request without I/O, against answers in pieces and against noise.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What came of a request: how much of the input was taken, and the outcome, if there is one.
fn play(input: &[u8], cuts: &[usize]) -> (usize, Option<Result<(), HttpConnectError>>) {
    let to: Endpoint = "h:80".parse().unwrap();
    let mut request = ConnectRequest::new(&to, None);
    assert_eq!(request.receive(input), 0, "not listened to before its time");
    request.sent();
    let mut taken = 0;
    loop {
        match request.action() {
            ConnectAction::Send(_) => panic!("there is one request"),
            ConnectAction::Open => return (taken, Some(Ok(()))),
            ConnectAction::Failed(error) => return (taken, Some(Err(error))),
            ConnectAction::Receive if taken == input.len() => return (taken, None),
            ConnectAction::Receive => {
                let end = cuts.iter().copied().find(|&cut| cut > taken).unwrap_or(input.len());
                taken += request.receive(&input[taken..end]);
            }
        }
    }
}

fn sorted(cuts: &[Index], len: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Pieces of answers, so that noise gets far.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just(&b"HTTP/1.1 "[..]),
        2 => Just(&b"200 OK\r\n"[..]),
        1 => Just(&b"100 \r\n"[..]),
        1 => Just(&b"407 x\r\nProxy-Authenticate: Basic\r\n"[..]),
        2 => Just(&b"\r\n"[..]),
        2 => Just(&b"a: b\r\n"[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\x00 :"[..]),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_a_good_answer_opens_and_leaves_what_follows(
        status in 200_u16..300,
        interim in 0..=ConnectRequest::MAX_INTERIM,
        reason in "[ -~]{0,30}",
        fields in vec(("[a-zA-Z-]{1,20}", "[!-~]{1,30}"), 0..8),
        follows in vec(any::<u8>(), 0..40),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let fields = fields.concat();
        let head = format!(
            "{}HTTP/1.1 {status} {reason}\r\n{fields}\r\n", "HTTP/1.1 102 Processing\r\nx: y\r\n\r\n".repeat(interim)
        );
        let input = [head.as_bytes(), &follows].concat();
        let expected = (head.len(), Some(Ok(())));
        prop_assert_eq!(play(&input, &sorted(&cuts, input.len())), expected);
        prop_assert_eq!(play(&input, &[]), expected);
    }

    #[test]
    fn noise_never_panics_and_means_the_same_in_any_split(input in noise(), cuts in vec(any::<Index>(), 0..20)) {
        let bytewise: Vec<_> = (0..input.len()).collect();
        let whole = play(&input, &[]);
        prop_assert_eq!(play(&input, &sorted(&cuts, input.len())), whole);
        prop_assert_eq!(play(&input, &bytewise), whole);
    }

    #[test]
    fn what_opens_a_tunnel_has_a_status_line_of_success_and_ends_in_a_blank_line(input in noise()) {
        if let (taken, Some(Ok(()))) = play(&input, &[]) {
            let head = std::str::from_utf8(&input[..taken]).unwrap();
            prop_assert!(head.ends_with("\r\n\r\n"));
            let last = head.strip_suffix("\r\n\r\n").unwrap().rsplit("\r\n\r\n").next().unwrap();
            prop_assert!(last.starts_with("HTTP/1.1 2"), "{}", head);
        }
    }
}

#[test]
fn debug_does_not_show_what_is_sent() {
    let to: Endpoint = "h:80".parse().unwrap();
    let credentials = BasicCredentials::new("app", "xyzzy").unwrap();
    let request = ConnectRequest::new(&to, Some(&credentials));
    assert_eq!(format!("{request:?}"), "ConnectRequest { action: Send(<78 bytes>), .. }");
}

#[test]
fn a_request_without_credentials_sends_what_the_rfc_has() {
    let to: Endpoint = "[2001:db8::1]:443".parse().unwrap();
    let mut request = ConnectRequest::new(&to, None);
    let sent = b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n";
    assert_eq!(request.action(), ConnectAction::Send(sent));
    request.sent();
    assert_eq!(request.receive(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0"), 19);
    assert_eq!(request.action(), ConnectAction::Open);
}
