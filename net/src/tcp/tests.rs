use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// How an attempt goes: at once, or after so many milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt {
    is_v6: bool,
    millis: u64,
    succeeds: bool,
}

/// What came of a race: which attempt succeeded, or in which order they failed; when; when each started; and which
/// were dropped while they were going on.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    result: Result<usize, Vec<usize>>,
    ended: u64,
    started: Vec<(usize, u64)>,
    dropped: Vec<usize>,
}

/// The address of the attempt of this index.
fn address(index: usize, is_v6: bool) -> SocketAddr {
    let port = u16::try_from(index + 1).unwrap();
    if is_v6 { (Ipv6Addr::LOCALHOST, port).into() } else { (Ipv4Addr::LOCALHOST, port).into() }
}

fn index(address: SocketAddr) -> usize {
    usize::from(address.port()) - 1
}

/// Notes that an attempt is dropped, unless it ended before.
struct Going {
    index: usize,
    has_ended: bool,
    dropped: Rc<RefCell<Vec<usize>>>,
}

impl Going {
    fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if !self.has_ended {
            self.dropped.borrow_mut().push(self.index);
        }
    }
}

/// A race of attempts, with a clock that only goes on when everybody waits.
fn run(attempts: &[Attempt]) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let now = || u64::try_from(begun.elapsed().as_millis()).unwrap();
        let addresses: Vec<_> =
            attempts.iter().enumerate().map(|(index, attempt)| address(index, attempt.is_v6)).collect();
        let (mut started, dropped) = (Vec::new(), Rc::default());
        let raced = race(&addresses, |address, _| {
            let index = index(address);
            let attempt = attempts[index];
            started.push((index, now()));
            let going = Going { index, has_ended: false, dropped: Rc::clone(&dropped) };
            Some(async move {
                if attempt.millis > 0 {
                    sleep(Duration::from_millis(attempt.millis)).await;
                }
                going.end();
                if attempt.succeeds { Ok(index) } else { Err(index) }
            })
        });
        let result = raced.await.map_err(|failed| {
            assert!(failed.iter().all(|&(address, error)| index(address) == error));
            failed.into_iter().map(|(_, error)| error).collect()
        });
        let ended = now();
        let dropped = dropped.take();
        Outcome { result, ended, started, dropped }
    })
}

/// The same, millisecond by millisecond.
fn model(attempts: &[Attempt]) -> Outcome {
    let of =
        |is_v6| (0..attempts.len()).filter(move |&index| attempts[index].is_v6 == is_v6).collect::<Vec<_>>();
    let (v6, v4) = (of(true), of(false));
    let both = v6.len().min(v4.len());
    let in_turns = (0..both).flat_map(|index| [v6[index], v4[index]]);
    let order: Vec<_> =
        in_turns.chain(v6[both..].iter().copied()).chain(v4[both..].iter().copied()).collect();

    let (mut started, mut failed, mut going) = (Vec::<(usize, u64)>::new(), Vec::new(), Vec::<usize>::new());
    for now in 0.. {
        loop {
            let is_over = |&&index: &&usize| {
                let begun = started.iter().find(|(started, _)| *started == index).unwrap().1;
                begun + attempts[index].millis <= now
            };
            // Of several that are over at the same time the one that started first counts first.
            let over = going.iter().find(is_over).copied();
            if let Some(index) = over {
                going.retain(|&other| other != index);
                if attempts[index].succeeds {
                    return Outcome { result: Ok(index), ended: now, started, dropped: going };
                }
                failed.push(index);
                continue;
            }
            let next = order.get(started.len());
            let is_time =
                started.last().is_none_or(|&(last, begun)| failed.contains(&last) || begun + 250 <= now);
            match next {
                Some(&next) if is_time => {
                    started.push((next, now));
                    going.push(next);
                }
                None if going.is_empty() => {
                    return Outcome { result: Err(failed), ended: now, started, dropped: going };
                }
                Some(_) | None => break,
            }
        }
    }
    unreachable!("time does not end")
}

fn v6(millis: u64, succeeds: bool) -> Attempt {
    Attempt { is_v6: true, millis, succeeds }
}

fn v4(millis: u64, succeeds: bool) -> Attempt {
    Attempt { is_v6: false, millis, succeeds }
}

#[test]
fn families_take_turns_and_ipv6_begins() {
    let families = [false, false, false, true, true, true, true, true];
    let addresses: Vec<_> =
        families.iter().enumerate().map(|(index, &is_v6)| address(index, is_v6)).collect();
    let order: Vec<_> = interleave(&addresses).map(index).collect();
    assert_eq!(order, [3, 0, 4, 1, 5, 2, 6, 7]);
}

#[test]
fn a_silent_family_costs_one_delay() {
    let outcome = run(&[v6(60_000, false), v4(20, true)]);
    let expected = Outcome { result: Ok(1), ended: 270, started: vec![(0, 0), (1, 250)], dropped: vec![0] };
    assert_eq!(outcome, expected);
}

#[test]
fn a_family_that_fails_at_once_costs_nothing() {
    let outcome = run(&[v6(0, false), v4(20, true), v6(0, false)]);
    assert_eq!((outcome.result, outcome.ended, outcome.started), (Ok(1), 20, vec![(0, 0), (1, 0)]));
}

#[test]
fn a_slow_first_attempt_may_still_win() {
    let outcome = run(&[v6(260, true), v4(20, true)]);
    assert_eq!((outcome.result, outcome.ended, outcome.dropped), (Ok(0), 260, vec![1]));
}

#[test]
fn only_the_failure_of_the_last_attempt_brings_the_next_forward() {
    let outcome = run(&[v6(300, false), v4(1000, true), v6(0, true)]);
    assert_eq!((outcome.result, outcome.started), (Ok(2), vec![(0, 0), (1, 250), (2, 500)]));
}

#[test]
fn when_all_fail_each_error_is_there() {
    let outcome = run(&[v6(400, false), v4(10, false), v6(0, false)]);
    // The first is alone until 250; the second fails at 260, the third then and there, the first at 400.
    assert_eq!((outcome.result, outcome.ended), (Err(vec![1, 2, 0]), 400));
    assert!(outcome.dropped.is_empty());
}

#[test]
fn no_address_is_no_success() {
    assert_eq!(run(&[]).result, Err(vec![]));
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let millis = prop_oneof![Just(0), 1_u64..1200, Just(250), Just(500)];
    (any::<bool>(), millis, proptest::bool::weighted(0.3)).prop_map(|(is_v6, millis, succeeds)| Attempt {
        is_v6,
        millis,
        succeeds,
    })
}

proptest! {
    #[test]
    fn races_as_the_model_does(attempts in proptest::collection::vec(attempt(), 0..8)) {
        prop_assert_eq!(run(&attempts), model(&attempts));
    }

    #[test]
    fn no_address_is_left_out_or_tried_twice(families in proptest::collection::vec(any::<bool>(), 0..40)) {
        let addresses: Vec<_> =
            families.iter().enumerate().map(|(index, &is_v6)| address(index, is_v6)).collect();
        let order: Vec<_> = interleave(&addresses).collect();
        let mut sorted: Vec<_> = order.iter().copied().map(index).collect();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..addresses.len()).collect::<Vec<_>>());
        for is_v6 in [true, false] {
            let of = |addresses: &[SocketAddr]| {
                addresses.iter().copied().filter(|address| address.is_ipv6() == is_v6).collect::<Vec<_>>()
            };
            prop_assert_eq!(of(&order), of(&addresses));
        }
        prop_assert!(order.first().is_none_or(SocketAddr::is_ipv6) || !families.contains(&true));
    }
}

fn failed(kinds: &[(&str, io::ErrorKind)]) -> io::Error {
    all_failed(kinds.iter().map(|&(address, kind)| (address.parse().unwrap(), kind.into())).collect())
}

#[test]
fn the_error_of_every_address_is_shown_and_the_most_telling_kind_is_taken() {
    use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};

    let error = failed(&[("[2001:db8::1]:443", NetworkUnreachable), ("192.0.2.1:443", ConnectionRefused)]);
    assert_eq!(error.kind(), ConnectionRefused);
    assert_eq!(
        error.to_string(),
        "none of 2 addresses could be connected to: [2001:db8::1]:443: network unreachable; \
         192.0.2.1:443: connection refused"
    );
    assert_eq!(failed(&[("[2001:db8::1]:443", NetworkUnreachable)]).kind(), NetworkUnreachable);
}
