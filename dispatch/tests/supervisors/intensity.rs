//! When a supervisor gives up.

use std::error::Error;
use std::time::Duration;

use frame_dispatch::process::supervisor::{Backoff, DownReason, Strategy, Supervisor, TooManyRestarts};
use frame_dispatch::process::{Exit, ExitReason, HostConfig, SpawnError};
use frame_dispatch::{CallError, ErrorKind};
use tokio::time::advance;

use crate::support::{Field, often, settle, spec, supervisor, within};

fn failure(exit: &Exit) -> &CallError {
    match &exit.reason {
        ExitReason::Failed(error) => error,
        other => panic!("it did not fail: {other:?}"),
    }
}

fn too_many(exit: &Exit) -> &TooManyRestarts {
    failure(exit).source().and_then(|source| source.downcast_ref()).expect("it did not give up")
}

#[tokio::test(start_paused = true)]
async fn with_one_restart_too_many_it_shuts_down_in_reverse_and_says_why() {
    let mut field = Field::new();
    let all = supervisor(Strategy::OneForOne, ["a", "b", "c"])
        .restart_policy(often().with_intensity(2, Duration::from_mins(1)));
    let top = field.up(all).await;
    assert_eq!(field.said().await, "+a +b +c");
    for child in ["a", "b"] {
        field.tell(top.pid_of(child).await, "fail");
        assert_eq!(field.said().await, format!("!{child} +{child}"));
    }
    field.tell(top.pid_of("b").await, "panic");
    assert_eq!(field.said().await, "!b -c -a");
    let exit = top.exit().await;
    assert_eq!(
        exit.reason.to_string(),
        "it failed: the supervisor gave up: children had to be restarted 3 times within 60s, where 2 times are \
         allowed; the last was `b`: it panicked: told to panic"
    );
    let too_many = too_many(&exit);
    assert_eq!((&*too_many.child, too_many.restarts, too_many.allowed), ("b", 3, 2));
    assert!(matches!(too_many.reason, DownReason::Exited(ExitReason::Panicked(_))));
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_that_are_longer_ago_than_the_window_do_not_count() {
    let mut field = Field::new();
    let all = supervisor(Strategy::OneForOne, ["a"])
        .restart_policy(often().with_intensity(1, Duration::from_secs(10)));
    let top = field.up(all).await;
    for _ in 0..20 {
        field.tell(top.pid_of("a").await, "fail");
        field.said().await;
        advance(Duration::from_secs(11)).await;
    }
    assert_eq!(top.child("a").await.restarts, 20);
    field.tell(top.pid_of("a").await, "fail");
    field.said().await;
    advance(Duration::from_secs(9)).await;
    field.tell(top.pid_of("a").await, "fail");
    assert_eq!(too_many(&top.exit().await).restarts, 2);
}

#[tokio::test(start_paused = true)]
async fn with_no_restarts_allowed_the_first_failure_ends_it() {
    let field = Field::new();
    let all = supervisor(Strategy::OneForAll, ["a", "b"])
        .restart_policy(often().with_intensity(0, Duration::from_secs(1)));
    let top = field.up(all).await;
    field.tell(top.pid_of("a").await, "done");
    let exit = top.exit().await;
    assert_eq!((too_many(&exit).restarts, too_many(&exit).allowed), (1, 0));
    field.gone().await;
}

#[tokio::test(start_paused = true)]
async fn by_default_a_child_that_fails_at_once_is_too_much_within_the_second() {
    let field = Field::new();
    let top = field.up(Supervisor::builder(Strategy::OneForOne).child(spec("a"))).await;
    let began = tokio::time::Instant::now();
    let handle = top.handle.clone();
    let fails = async {
        loop {
            let Ok(children) = handle.children().await else { break };
            match children.first().and_then(|child| child.pid) {
                Some(pid) => field.tell(pid, "fail"),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
            settle().await;
        }
    };
    within("the test for the supervisor to give up", fails).await;
    assert_eq!(too_many(&top.exit().await).restarts, 4);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Each time a child is not started counts, and the last cause is told.
#[tokio::test(start_paused = true)]
async fn restarts_that_do_not_start_are_too_many_at_last() {
    let mut field = Field::new();
    let all = supervisor(Strategy::OneForOne, ["a", "b"]).restart_policy(
        often()
            .with_backoff(Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).with_jitter(0.0))
            .with_intensity(4, Duration::from_mins(1)),
    );
    let top = field.up(all).await;
    assert_eq!(field.said().await, "+a +b");
    let began = tokio::time::Instant::now();
    let b = top.pid_of("b").await;
    field.processes.unregister(&"test:child".parse().unwrap());
    field.tell(b, "fail");
    let exit = top.exit().await;
    assert_eq!(began.elapsed().as_secs(), 4);
    let DownReason::NotStarted(error) = &too_many(&exit).reason else { panic!("{exit:?}") };
    assert!(matches!(**error, SpawnError::UnknownEntry { .. }), "{error:?}");
    assert_eq!(
        exit.reason.to_string(),
        "it failed: the supervisor gave up: children had to be restarted 5 times within 60s, where 4 times are \
         allowed; the last was `b`: it was not started: unknown process `test:child`; register it"
    );
    assert_eq!(field.said().await, "!b -a");
}

/// With no delay and as many restarts as can be counted, others still run.
#[tokio::test(start_paused = true)]
async fn a_restart_that_is_tried_without_end_leaves_others_their_time() {
    let field = Field::on(HostConfig::default().with_processes(3));
    let all = supervisor(Strategy::OneForOne, ["a", "b"])
        .restart_policy(often().with_intensity(u32::MAX, Duration::from_millis(1)));
    let top = field.up(all).await;
    let a = top.pid_of("a").await;
    field.processes.unregister(&"test:child".parse().unwrap());
    field.tell(a, "fail");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    field.processes.cancel(top.pid, "a test", Duration::from_mins(1)).unwrap();
    let exit = top.exit().await;
    assert!(exit.reason.is_normal(), "{exit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_its_kind() {
    let field = Field::new();
    let all = supervisor(Strategy::OneForOne, ["a"])
        .restart_policy(often().with_intensity(0, Duration::from_secs(1)));
    let top = field.up(all).await;
    field.tell(top.pid_of("a").await, "fail");
    let exit = top.exit().await;
    assert_eq!(failure(&exit).kind(), ErrorKind::Internal);
    assert!(!failure(&exit).is_retryable());
}
