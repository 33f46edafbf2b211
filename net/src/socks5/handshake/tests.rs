//! The handshake without I/O, against a model of a proxy and against noise.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What came of a handshake: everything that was sent, how much of the input was taken, and the outcome.
#[derive(Debug, PartialEq)]
struct Played {
    sent: Vec<u8>,
    taken: usize,
    outcome: Outcome,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Open,
    Failed(HandshakeError),
    /// The input ended.
    Waiting,
}

/// Feeds `input` in pieces that end at `cuts`, the rest in one.
fn play(to: &Endpoint, credentials: Option<&Credentials>, input: &[u8], cuts: &[usize]) -> Played {
    let mut handshake = Handshake::new(to, credentials);
    let mut sent = Vec::new();
    let mut taken = 0;
    loop {
        let outcome = match handshake.action() {
            Action::Send(bytes) => {
                sent.extend(bytes);
                // Not listened to before its time.
                assert_eq!(handshake.receive(&input[taken..]), 0);
                handshake.sent();
                continue;
            }
            Action::Receive(most) if taken < input.len() => {
                let end = cuts.iter().copied().find(|&cut| cut > taken).unwrap_or(input.len());
                let piece = &input[taken..end.min(input.len())];
                let now = handshake.receive(piece);
                assert!(now > 0, "a byte that is asked for is taken");
                // More than was asked for is taken only where a later byte says that there is more.
                assert!(now <= most || piece.len() > most);
                taken += now;
                continue;
            }
            Action::Receive(_) => Outcome::Waiting,
            Action::Open => Outcome::Open,
            Action::Failed(error) => Outcome::Failed(error),
        };
        assert!(outcome == Outcome::Waiting || handshake.receive(&[0; 8]) == 0, "it is over");
        return Played { sent, taken, outcome };
    }
}

/// As [`play`], but as a socket would: never handing over more than was asked for.
fn play_exactly(to: &Endpoint, credentials: Option<&Credentials>, input: &[u8]) -> Played {
    let mut cuts = Vec::new();
    let mut handshake = Handshake::new(to, credentials);
    let mut taken = 0;
    loop {
        match handshake.action() {
            Action::Send(_) => handshake.sent(),
            Action::Receive(most) if taken + most <= input.len() => {
                let now = handshake.receive(&input[taken..taken + most]);
                taken += now;
                cuts.push(taken);
                if !matches!(handshake.action(), Action::Failed(_)) {
                    assert_eq!(now, most, "what is asked for is never too much");
                }
            }
            _ => return play(to, credentials, input, &cuts),
        }
    }
}

/// A user name and a password.
fn login() -> impl Strategy<Value = Option<(String, String)>> {
    let text = "[a-z0-9ä]{1,127}";
    proptest::option::of((text, text))
}

fn credentials(login: Option<&(String, String)>) -> Option<Credentials> {
    let (user, password) = login?;
    Some(Credentials::new(user.as_str(), password.as_str()).unwrap())
}

/// With one byte before it that says how long it is.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn target() -> impl Strategy<Value = (Endpoint, Vec<u8>)> {
    let name = "[a-z]{1,63}(\\.[a-z]{1,63}){0,2}".prop_map(|name| {
        let encoded = [&[3], &counted(name.as_bytes())[..]].concat();
        (name, encoded)
    });
    let v4 = any::<std::net::Ipv4Addr>().prop_map(|ip| (ip.to_string(), [&[1][..], &ip.octets()].concat()));
    let v6 =
        any::<std::net::Ipv6Addr>().prop_map(|ip| (format!("[{ip}]"), [&[4][..], &ip.octets()].concat()));
    (prop_oneof![name, v4, v6], 1..=u16::MAX).prop_map(|((host, mut encoded), port)| {
        encoded.extend(port.to_be_bytes());
        (format!("{host}:{port}").parse().unwrap(), encoded)
    })
}

/// The address a proxy says it dials from.
fn bound() -> impl Strategy<Value = Vec<u8>> {
    let name = vec(any::<u8>(), 0..=255).prop_map(|name| [&[3], &counted(&name)[..]].concat());
    let v4 = any::<[u8; 4]>().prop_map(|ip| [&[1], &ip[..]].concat());
    let v6 = any::<[u8; 16]>().prop_map(|ip| [&[4], &ip[..]].concat());
    (prop_oneof![name, v4, v6], any::<[u8; 2]>()).prop_map(|(address, port)| [&address, &port[..]].concat())
}

/// What a client sends.
fn asking(login: Option<&(String, String)>, address: &[u8]) -> Vec<u8> {
    let authentication = match login {
        None => vec![5, 1, 0],
        Some((user, password)) => {
            [&[5, 1, 2, 1], &counted(user.as_bytes())[..], &counted(password.as_bytes())].concat()
        }
    };
    [&authentication[..], &[5, 1, 0], address].concat()
}

/// What a proxy sends that grants everything, in two parts: before the reply to the request, and that.
fn granting(login: Option<&(String, String)>, reserved: u8, bound: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let methods: &[u8] = if login.is_some() { &[5, 2, 1, 0] } else { &[5, 0] };
    (methods.to_vec(), [&[5, 0, reserved], bound].concat())
}

fn sorted(cuts: &[Index], len: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn any_split_of_a_good_handshake_opens_and_leaves_what_follows(
        (to, address) in target(),
        login in login(),
        reserved in any::<u8>(),
        bound in bound(),
        follows in vec(any::<u8>(), 0..40),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let credentials = credentials(login.as_ref());
        let (methods, reply) = granting(login.as_ref(), reserved, &bound);
        let input = [&methods[..], &reply, &follows].concat();
        let expected = Played {
            sent: asking(login.as_ref(), &address),
            taken: methods.len() + reply.len(),
            outcome: Outcome::Open,
        };
        let cuts = sorted(&cuts, input.len());
        prop_assert_eq!(&play(&to, credentials.as_ref(), &input, &cuts), &expected);
        prop_assert_eq!(&play(&to, credentials.as_ref(), &input, &[]), &expected);
        prop_assert_eq!(&play_exactly(&to, credentials.as_ref(), &input), &expected);
    }

    #[test]
    fn noise_never_panics_and_means_the_same_in_any_split(
        (to, _) in target(),
        login in login(),
        // Mostly bytes that the protocol uses, so that the noise gets far.
        input in vec(prop_oneof![4 => 0..6_u8, 1 => any::<u8>()], 0..64),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let credentials = credentials(login.as_ref());
        let cuts = sorted(&cuts, input.len());
        let bytewise: Vec<_> = (0..input.len()).collect();
        let whole = play(&to, credentials.as_ref(), &input, &[]);
        prop_assert_eq!(&play(&to, credentials.as_ref(), &input, &cuts), &whole);
        prop_assert_eq!(&play(&to, credentials.as_ref(), &input, &bytewise), &whole);
    }

    #[test]
    fn one_changed_byte_is_tolerated_only_where_it_says_nothing(
        (to, _) in target(),
        login in login(),
        position in 0..14_usize,
        byte in any::<u8>(),
    ) {
        let credentials = credentials(login.as_ref());
        let (methods, reply) = granting(login.as_ref(), 0, &[1, 127, 0, 0, 1, 0, 80]);
        let mut input = [&methods[..], &reply].concat();
        prop_assume!(input.get(position).is_some_and(|&old| old != byte));
        input[position] = byte;
        let played = play(&to, credentials.as_ref(), &input, &[]);
        match position.checked_sub(methods.len()) {
            // Before the reply, its version, its code.
            None | Some(0 | 1) => prop_assert!(matches!(played.outcome, Outcome::Failed(_)), "{:?}", played),
            // The type of the address: of another one the address is longer than what is there.
            Some(3) => prop_assert_ne!(played.outcome, Outcome::Open),
            Some(_) => prop_assert_eq!(played.outcome, Outcome::Open),
        }
    }
}

#[test]
fn it_stops_at_the_first_byte_that_refuses() {
    let to: Endpoint = "h:80".parse().unwrap();
    let played = play(&to, None, &[5, 0, 5, 2, 0, 9, 9], &[]);
    assert_eq!(played.taken, 4);
    assert_eq!(played.outcome, Outcome::Failed(HandshakeError::Refused(Refusal::NotAllowed)));
}

#[test]
fn debug_does_not_show_what_is_sent() {
    let to: Endpoint = "h:80".parse().unwrap();
    let credentials = Credentials::new("app", "xyzzy").unwrap();
    let mut handshake = Handshake::new(&to, Some(&credentials));
    handshake.sent();
    handshake.receive(&[5, 2]);
    let Action::Send(bytes) = handshake.action() else { panic!("{handshake:?}") };
    assert_eq!(bytes, b"\x01\x03app\x05xyzzy");
    assert!(format!("{handshake:?}").ends_with("action: Send(<11 bytes>), .. }"));
}

#[test]
fn every_code_but_success_is_a_refusal_of_its_own() {
    assert_eq!(Refusal::from_code(0), None);
    for code in 1..=u8::MAX {
        let refusal = Refusal::from_code(code).unwrap();
        assert_eq!(refusal.code(), code);
        assert_eq!(matches!(refusal, Refusal::Unassigned(_)), code > 8);
        assert!(refusal.to_string().contains(&format!("code {code}")), "{refusal}");
    }
}

#[test]
fn a_handshake_without_credentials_sends_what_the_rfc_has() {
    let to: Endpoint = "example.com:80".parse().unwrap();
    let mut handshake = Handshake::new(&to, None);
    assert_eq!(handshake.action(), Action::Send(&[5, 1, 0]));
    handshake.sent();
    assert_eq!(handshake.action(), Action::Receive(2));
    assert_eq!(handshake.receive(&[5, 0]), 2);
    assert_eq!(handshake.action(), Action::Send(b"\x05\x01\x00\x03\x0bexample.com\x00\x50"));
    handshake.sent();
    assert_eq!(handshake.receive(b"\x05\x00\x00\x01\x7f\0\0\x01\x1f\x90HTTP"), 10);
    assert_eq!(handshake.action(), Action::Open);
}
