//! When a child is restarted.

use std::time::Duration;

use frame_dispatch::process::supervisor::{Backoff, ChildState, Strategy};
use tokio::time::{Instant, advance};

use crate::support::{Field, often, settle, spec, supervisor, within};

const FIRST: Duration = Duration::from_millis(100);

fn backoff() -> Backoff {
    Backoff::new(FIRST, Duration::from_secs(1)).with_jitter(0.0).with_reset_after(Duration::from_secs(30))
}

/// Fails a child, and measures until it is started again; in milliseconds, for a timer counts no less.
async fn delay(field: &mut Field, pid: frame_dispatch::Pid, id: &str) -> u128 {
    field.said().await;
    let began = Instant::now();
    field.tell(pid, "fail");
    while field.next().await != format!("+{id}") {}
    let delay = began.elapsed().as_millis();
    // A timer may be a millisecond late.
    delay / 10 * 10
}

#[tokio::test(start_paused = true)]
async fn delays_double_up_to_the_longest_and_begin_again_after_a_long_life() {
    let mut field = Field::new();
    let top = field
        .up(supervisor(Strategy::OneForOne, ["a", "b"]).restart_policy(often().with_backoff(backoff())))
        .await;
    for expected in [100, 200, 400, 800, 1_000, 1_000] {
        assert_eq!(delay(&mut field, top.pid_of("a").await, "a").await, expected);
    }
    assert_eq!(delay(&mut field, top.pid_of("b").await, "b").await, 100, "each child has its own");
    advance(Duration::from_secs(29)).await;
    assert_eq!(delay(&mut field, top.pid_of("a").await, "a").await, 1_000);
    advance(Duration::from_secs(31)).await;
    assert_eq!(delay(&mut field, top.pid_of("a").await, "a").await, 100);
    assert_eq!(delay(&mut field, top.pid_of("a").await, "a").await, 200);
}

#[tokio::test(start_paused = true)]
async fn siblings_wait_for_the_delay_of_the_one_that_failed() {
    let mut field = Field::new();
    let top = field
        .up(supervisor(Strategy::RestForOne, ["a", "b", "c"]).restart_policy(often().with_backoff(backoff())))
        .await;
    assert_eq!(field.said().await, "+a +b +c");
    field.tell(top.pid_of("b").await, "fail");
    assert_eq!(field.said().await, "!b -c", "those behind it are down at once");
    let states: Vec<_> = top.children().await.iter().map(|child| child.state).collect();
    assert_eq!(states, [ChildState::Running, ChildState::Waiting, ChildState::Waiting]);
    let began = Instant::now();
    assert_eq!(field.next().await, "+b");
    assert!(began.elapsed() > FIRST / 2, "{:?}", began.elapsed());
    assert_eq!(field.said().await, "+c");
}

#[tokio::test(start_paused = true)]
async fn delays_are_shortened_at_random_by_no_more_than_the_jitter() {
    let mut field = Field::new();
    let backoff = backoff().with_factor(1.0).with_jitter(0.5);
    let top =
        field.up(supervisor(Strategy::OneForOne, ["a"]).restart_policy(often().with_backoff(backoff))).await;
    for _ in 0..20 {
        let delay = delay(&mut field, top.pid_of("a").await, "a").await;
        assert!((50..=100).contains(&delay), "{delay}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_other_children_are_restarted_and_questions_answered() {
    let mut field = Field::new();
    let long = Backoff::new(Duration::from_mins(1), Duration::from_mins(1)).with_jitter(0.0);
    let top = field
        .up(supervisor(Strategy::OneForOne, ["a", "b"]).restart_policy(often().with_backoff(long)))
        .await;
    assert_eq!(field.said().await, "+a +b");
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(field.said().await, "!a");
    advance(Duration::from_secs(30)).await;
    field.tell(top.pid_of("b").await, "fail");
    assert_eq!(field.said().await, "!b");
    let began = Instant::now();
    assert_eq!(top.child("a").await.state, ChildState::Waiting);
    assert_eq!(field.next().await, "+a");
    // What was said before took some milliseconds.
    assert!((29..=30).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(field.next().await, "+b");
    assert!((59..=60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_it_is_cancelled_at_once() {
    let mut field = Field::new();
    let long = Backoff::new(Duration::from_mins(1), Duration::from_mins(1));
    let top = field
        .up(supervisor(Strategy::OneForAll, ["a", "b"]).restart_policy(often().with_backoff(long)))
        .await;
    field.tell(top.pid_of("a").await, "fail");
    settle().await;
    let began = Instant::now();
    field.processes.cancel(top.pid, "a test", Duration::from_secs(5)).unwrap();
    assert!(top.exit().await.reason.is_normal());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(field.said().await, "+a +b !a -b");
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_delay_that_is_too_long_to_be_counted_a_child_is_started_only_by_hand() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut field = Field::new();
        let never = Backoff::new(Duration::MAX, Duration::MAX);
        let top = field.up(supervisor(strategy, ["a"]).restart_policy(often().with_backoff(never))).await;
        field.tell(top.pid_of("a").await, "fail");
        assert_eq!(field.said().await, "+a !a");
        tokio::time::sleep(Duration::from_hours(24 * 365)).await;
        assert_eq!((field.said().await, top.child("a").await.state), (String::new(), ChildState::Waiting));
        within("the test", top.handle.restart("a")).await.unwrap();
        assert_eq!(field.said().await, "+a");
    }
}

/// What is done for one that fails does not grow with how many wait: else this takes minutes.
#[tokio::test(start_paused = true)]
async fn thousands_of_children_wait_for_their_restart() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll] {
        let mut field = Field::new();
        let long = Backoff::new(Duration::from_mins(5), Duration::from_mins(5)).with_jitter(0.0);
        let all = supervisor(strategy, [])
            .restart_policy(often().with_intensity(u32::MAX, Duration::from_mins(1)).with_backoff(long));
        let ids: Vec<_> = (0..4_000).map(|number| number.to_string()).collect();
        let top = field.up(ids.iter().fold(all, |all, id| all.child(spec(id)))).await;
        for child in top.children().await {
            field.tell(child.pid.unwrap(), "fail");
        }
        settle().await;
        assert!(top.children().await.iter().all(|child| child.state == ChildState::Waiting));
        field.said().await;
        tokio::time::sleep(Duration::from_mins(5)).await;
        let said = field.said().await;
        assert_eq!(said.split(' ').filter(|said| said.starts_with('+')).count(), 4_000);
        assert!(top.children().await.iter().all(|child| child.state == ChildState::Running));
    }
}
