use std::cell::Cell;
use std::future::{Ready, ready};

use serde_json::{Value, json};

use super::*;

/// A resolver that gives `answers`, one after the other, and counts how often it is asked.
struct Names<'a> {
    answers: &'a [&'a [&'a str]],
    asked: Cell<usize>,
}

impl<'a> Names<'a> {
    fn new(answers: &'a [&'a [&'a str]]) -> Self {
        Self { answers, asked: Cell::new(0) }
    }

    fn lookup(&self, _: &HostName, port: u16) -> Ready<Result<Vec<SocketAddr>, DriverError>> {
        let answer = self.answers[self.asked.replace(self.asked.get() + 1)];
        ready(Ok(answer.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect()))
    }

    async fn dial(&self, config: Value, to: &str) -> Result<Checked, DriverError> {
        let guard = Guard::new(serde_json::from_value(config).unwrap());
        let to = to.parse().unwrap();
        resolve_endpoint(&guard, DriverStep::Connect, &to, |name, port| self.lookup(name, port)).await
    }
}

#[tokio::test]
async fn a_name_that_is_denied_is_not_looked_up() {
    let names = Names::new(&[]);
    for config in [
        json!({ "deny": ["*.example"] }),
        json!({ "deny": ["*:80"] }),
        json!({ "default": "deny" }),
        json!({ "default": "deny", "allow": ["b.example", "a.example:81", "10.0.0.0/8:81"] }),
        json!({ "default": "deny", "allow": ["10.0.0.0/8", "0.0.0.0/0", "::/0"] }),
    ] {
        let error = names.dial(config, "a.example:80").await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Denied(denied) if denied.address().is_none()), "{error:?}");
        assert!(!error.is_retryable());
    }
    for config in [
        json!({ "deny": ["a.example"] }),
        json!({ "default": "deny", "allow": ["b.example", "0.0.0.0/0", "::/0"] }),
    ] {
        let guard = Guard::new(serde_json::from_value(config).unwrap());
        let denied = "a.example".parse().unwrap();
        let error = resolve_name(&guard, &denied, |name, port| names.lookup(name, port)).await.unwrap_err();
        assert_eq!((error.step(), error.peer()), (DriverStep::Lookup, "a.example"));
    }
    assert_eq!(names.asked.get(), 0);
}

#[tokio::test]
async fn one_denied_address_refuses_the_whole_answer() {
    for answer in [["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2a00::1", "::ffff:10.0.0.1"]] {
        let answers: &[&[&str]] = &[&answer];
        let names = Names::new(answers);
        let error = names.dial(json!({}), "a.example:80").await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Denied(denied) if denied.address().is_some()), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_dialled_is_what_was_checked_and_nobody_is_asked_again() {
    let names = Names::new(&[&["8.8.8.8", "2a00::1"], &["127.0.0.1"]]);
    let checked = names.dial(json!({}), "a.example:80").await.unwrap();
    let expected = ["8.8.8.8:80", "[2a00::1]:80"].map(|address| address.parse().unwrap());
    assert_eq!(checked.as_slice(), expected);
    assert_eq!(names.asked.get(), 1);
}

#[tokio::test]
async fn an_address_is_checked_and_nobody_is_asked() {
    let names = Names::new(&[]);
    let checked = names.dial(json!({}), "8.8.8.8:80").await.unwrap();
    assert_eq!(checked.as_slice(), ["8.8.8.8:80".parse().unwrap()]);
    names.dial(json!({}), "10.0.0.1:80").await.unwrap_err();
    assert_eq!(names.asked.get(), 0);
}

#[tokio::test]
async fn the_zone_of_an_answer_stays() {
    let guard = Guard::new(serde_json::from_value(json!({ "allow": ["fe80::/10"] })).unwrap());
    let answer = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 7));
    let to = "printer.local:80".parse().unwrap();
    let checked =
        resolve_endpoint(&guard, DriverStep::Connect, &to, |_, _| async { Ok(vec![answer]) }).await.unwrap();
    assert_eq!(checked.as_slice(), [answer]);
}
