//! Whose key a frame gets.

use std::collections::HashMap;

use frame_registry::{App, Frame, FrameResolvers};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn key(text: &str) -> IsolationKey {
    text.parse().unwrap()
}

fn frame(key: &IsolationKey) -> Frame {
    Frame::from_iter([ISOLATION_KEY.pair(key.clone())])
}

fn resolve(options: &Options, parent: Option<&Frame>) -> Result<Option<IsolationKey>, IsolationError> {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let pair = isolation(&ResolveContext::new(&app.build(), parent), options)?;
    Ok(pair.map(|pair| pair.get(&ISOLATION_KEY).unwrap().clone()))
}

fn given(text: &str) -> Options {
    Options::new().with(&ISOLATION, key(text))
}

#[test]
fn a_trusted_key_is_the_key_and_without_one_it_is_the_parents() {
    let parent = frame(&key("parent"));
    assert_eq!(resolve(&given("own"), Some(&parent)), Ok(Some(key("own"))));
    assert_eq!(resolve(&Options::new(), Some(&parent)), Ok(Some(key("parent"))));
    assert_eq!(resolve(&Options::new(), None), Ok(None));
    // Also the other way round: what untrusted code was given ends where trusted code says so.
    let below = frame(&key("script").within(None).unwrap());
    assert_eq!(resolve(&given("own"), Some(&below)), Ok(Some(key("own"))));
}

#[test]
fn an_untrusted_key_is_within_that_of_the_caller() {
    let parent = frame(&key("tenant-1"));
    let got = resolve(&given("tenant-2").untrusted(), Some(&parent)).unwrap().unwrap();
    assert_eq!((got.as_str(), got.to_string().as_str()), ("tenant-1\u{1f}tenant-2", "tenant-1/tenant-2"));
    let alone = resolve(&given("tenant-2").untrusted(), None).unwrap().unwrap();
    assert_ne!(alone, key("tenant-2"));
}

#[test]
fn an_untrusted_key_does_not_replace_a_preset() {
    let options = given("preset").merged_under(&given("script").untrusted());
    assert_eq!(resolve(&options, None), Err(IsolationError::Preset));
    let options = options.merged_under(&given("trusted"));
    assert_eq!(resolve(&options, None), Ok(Some(key("trusted"))));
}

#[test]
fn what_is_nested_too_deeply_is_refused() {
    let mut carried = key("x");
    let name = "n".repeat(100);
    let refused = loop {
        match resolve(&given(&name).untrusted(), Some(&frame(&carried))) {
            Ok(next) => carried = next.unwrap(),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, IsolationError::Within(IsolationKeyError::Length { len: 1 + 11 * 101 }));
    assert_eq!(
        refused.to_string(),
        "the isolation key is within that of the caller, and an isolation key has 1 to 1024 bytes, not 1112"
    );
}

#[test]
fn no_text_is_read_as_what_untrusted_code_was_given() {
    for text in ["\u{1f}script", "tenant\u{1f}script", "a\nb", "\u{0}", "\u{85}"] {
        assert_eq!(text.parse::<IsolationKey>(), Err(IsolationKeyError::Control), "{text:?}");
    }
}

proptest! {
    /// A path of names has one key, that no other path has, and no trusted key.
    #[test]
    fn keys_are_the_same_where_the_paths_are(
        paths in vec((proptest::option::of("[a/ ]{1,3}"), vec("[a/ ]{1,3}", 1..4)), 1..20),
        trusted in vec("[a/ ]{1,8}", 1..20),
    ) {
        let mut of_key = HashMap::new();
        for (root, names) in paths {
            let mut carried = root.as_deref().map(key);
            for name in &names {
                carried = Some(key(name).within(carried.as_ref()).unwrap());
            }
            let carried = carried.unwrap();
            prop_assert!(!trusted.iter().any(|trusted| key(trusted) == carried));
            let path = (root, names);
            let known = of_key.entry(carried.as_str().to_owned()).or_insert_with(|| path.clone());
            prop_assert_eq!(known, &path);
        }
    }
}

#[test]
fn the_same_key_has_the_same_credentials_and_no_others_do() {
    let (one, other) = (Isolator::default(), Isolator::default());
    let key = |text: &str| text.parse::<IsolationKey>().unwrap();
    let of = |isolator: &Isolator, text| isolator.credentials(Some(&key(text))).unwrap();
    assert_eq!(of(&one, "a"), of(&one, "a"));
    let distinct = [
        of(&one, "a"),
        of(&one, "b"),
        of(&other, "a"),
        one.credentials(None).unwrap(),
        one.credentials(None).unwrap(),
    ];
    for (index, credentials) in distinct.iter().enumerate() {
        assert!(distinct[..index].iter().flatten().all(|earlier| !credentials.contains(earlier)));
    }
}
