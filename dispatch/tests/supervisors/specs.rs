//! What a supervisor cannot be is refused when it is built.

use std::time::Duration;

use frame_dispatch::process::supervisor::{
    Backoff, RestartPolicy, SpecError, Strategy, Supervisor, SupervisorBuilder,
};

use crate::support::spec;

fn refused(supervisor: SupervisorBuilder) -> String {
    supervisor.build().unwrap_err().to_string()
}

fn empty() -> SupervisorBuilder {
    Supervisor::builder(Strategy::OneForOne)
}

#[test]
fn two_children_of_one_id_are_refused() {
    let twice = empty().child(spec("a")).child(spec("b")).child(spec("a"));
    assert_eq!(refused(twice), "two children have the id `a`; give each its own id");
}

#[test]
fn a_child_without_an_id_is_refused() {
    assert_eq!(refused(empty().child(spec(""))), "a child has an empty id; set one");
}

#[test]
fn an_empty_window_is_refused() {
    let never = empty().restart_policy(RestartPolicy::default().with_intensity(3, Duration::ZERO));
    assert_eq!(
        refused(never),
        "the window of the restart policy must be greater than zero, so that restarts are counted"
    );
}

#[test]
fn a_backoff_that_makes_no_sense_is_refused() {
    for (backoff, expected) in [
        (
            Backoff::default().with_factor(0.5),
            "invalid backoff factor 0.5; it must be at least 1, such as 2.0",
        ),
        (
            Backoff::default().with_factor(f64::NAN),
            "invalid backoff factor NaN; it must be at least 1, such as 2.0",
        ),
        (
            Backoff::default().with_jitter(1.5),
            "invalid backoff jitter 1.5; it must be from 0 to 1, such as 0.1",
        ),
        (
            Backoff::new(Duration::from_secs(10), Duration::from_secs(5)),
            "the first backoff delay 10s is longer than the longest, 5s; swap them",
        ),
    ] {
        assert_eq!(refused(empty().restart_policy(RestartPolicy::default().with_backoff(backoff))), expected);
    }
}

#[test]
fn the_first_mistake_is_told_as_data_too() {
    let error = empty().child(spec("a")).child(spec("a")).build().unwrap_err();
    assert_eq!(error, SpecError::DuplicateId { id: "a".into() });
}

#[test]
fn delays_stay_within_their_bounds_however_often_a_child_fails() {
    let backoff = Backoff::new(Duration::from_millis(1), Duration::MAX).with_factor(f64::MAX);
    assert_eq!(backoff.delay(0, 0.0), Duration::from_millis(1));
    assert_eq!(backoff.delay(1, f64::NAN), Duration::from_millis(1));
    assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::MAX);
    assert_eq!(Backoff::none().delay(u32::MAX, 0.0), Duration::ZERO);
    assert_eq!(Backoff::none().with_factor(f64::MAX).delay(u32::MAX, 1.0), Duration::ZERO);
}
