//! How scripts fail, and what does not become a script.

use std::error::Error;
use std::sync::Arc;

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaError};
use frame_dispatch::process::ExitReason;
use frame_dispatch::{CallError, ErrorKind};

use crate::support::{failed, returned};

#[tokio::test]
async fn an_error_says_where_and_keeps_the_traceback_behind_it() {
    let error = failed("local function inner()\n  error('no such thing')\nend\ninner()").await;
    assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "script:2: no such thing"));
    let traceback = error.source().unwrap().to_string();
    assert!(traceback.contains("script:4: in"), "{traceback}");
    let error = failed("\nlocal x = nil + 1").await;
    assert!(error.message().starts_with("script:2: attempt to perform arithmetic on a nil value"), "{error}");
    let error = failed("\n\nstring.find()").await;
    assert!(error.message().starts_with("script:3: bad argument #1"), "{error}");
    let error = failed("\nlocal x = string.format('%d', 'x')").await;
    let expected = "script:2: bad argument #2 to 'format' (number expected, got string)";
    assert_eq!(error.message(), expected);
    let error = failed("\nlocal x = string.pack('i17', 1)").await;
    assert!(error.message().starts_with("script:2: "), "{error}");
    let error = failed("\nlocal ok, e = pcall(string.rep, 'x', 1 << 50) error(e, 0)").await;
    assert!(error.message().ends_with("resulting string too large"), "{error}");
}

#[tokio::test]
async fn a_script_fails_with_a_kind_of_its_own() {
    let error = failed("error { kind = 'invalid', message = 'a name is needed' }").await;
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "a name is needed"));
    assert!(!error.is_retryable());
    let error = failed("error { kind = 'unavailable', message = 'later', retryable = false }").await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false));
    let error = failed("error { kind = 'strange', message = 'm' }").await;
    assert_eq!(error.kind(), ErrorKind::Internal);
    let expected = "m (raised with the unknown kind \"strange\"; the kinds are invalid, not_found, ";
    assert!(error.message().starts_with(expected), "{error}");
}

#[tokio::test]
async fn any_value_can_be_raised() {
    for (source, message) in [
        ("error()", "raised nil"),
        ("error(true)", "raised a boolean"),
        ("error({})", "raised a table without a `message`"),
        ("error(print)", "raised a function"),
        ("error(setmetatable({}, { __tostring = function() return 'it is ' .. 5 end }))", "it is 5"),
        ("error(setmetatable({}, { __tostring = function() while true do end end }))", "ran for 100 ms"),
    ] {
        let error = failed(source).await;
        assert!(error.message().contains(message), "{source}: {error}");
    }
}

#[tokio::test]
async fn an_error_that_is_caught_is_a_plain_value() {
    assert_eq!(returned("return type(select(2, pcall(string.find)))").await, "string");
    assert_eq!(
        returned("return select(2, pcall(string.rep, 'x', 1 << 50))").await,
        "resulting string too large"
    );
    assert_eq!(returned("return select(2, pcall(error, 'plain', 0))").await, "plain");
    assert_eq!(
        returned("return select(2, xpcall(string.find, function(e) return type(e) end))").await,
        "string"
    );
}

fn refused(source: &str) -> LuaError {
    let engine = LuaEngine::builder().build().unwrap();
    engine.function("script", source, LuaConfig::default()).unwrap_err()
}

#[test]
fn what_does_not_compile_is_refused_with_the_line() {
    let error = refused("local x = 1\nlocal = 2").to_string();
    assert_eq!(error, "the script does not compile: script:2: <name> expected near '='");
    let error = refused("end return function()").to_string();
    assert!(error.contains("script:1: <eof> expected near 'end'"), "{error}");
}

#[test]
fn what_is_bytecode_or_too_long_is_refused() {
    assert!(matches!(refused("\x1bLua"), LuaError::Bytecode { .. }));
    assert!(matches!(refused(&" ".repeat((1 << 20) + 1)), LuaError::TooLong { .. }));
}

#[test]
fn a_limit_of_memory_that_is_too_low_is_refused() {
    let engine = LuaEngine::builder().build().unwrap();
    let error = engine.function("script", "return 1", LuaConfig::default().with_memory(1000)).unwrap_err();
    assert!(matches!(error, LuaError::Vm { .. }), "{error:?}");
}

#[test]
fn a_long_chain_of_failed_calls_takes_no_more_stack_than_a_short_one() {
    let dropped = std::thread::Builder::new().stack_size(128 << 10).spawn(|| {
        let mut error = CallError::invalid("the first");
        for link in 0..100_000 {
            let next = CallError::new(ErrorKind::Internal, "the next");
            error = if link % 2 == 0 { next.with_source(error) } else { next.with_source(Arc::new(error)) };
        }
        let other = error.clone();
        let shown = ExitReason::Failed(Arc::new(error)).to_string();
        assert!(shown.starts_with("it failed: the next: the next") && shown.ends_with(": …"), "{shown}");
        drop(other);
    });
    dropped.unwrap().join().unwrap();
}
