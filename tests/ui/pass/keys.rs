//! Declared keys: what is known of them, and a value that goes to another node and comes back.
#![deny(warnings, missing_docs)]

use frame_registry::{Boundary, Frame, Key, Pair, declared_key, declared_keys, frame_key};
use std::convert::Infallible;
use std::sync::Arc;

/// The tenant of a frame.
#[frame_key(name = "app.tenant", propagates, inherit, public)]
pub static TENANT: Key<String>;

/// What is open on this node.
#[frame_key(name = "open", stays, inherit, secret)]
pub static OPEN: Key<Arc<u32>>;

/// A secret that propagates.
#[frame_key(name = "pin", secret, propagates, inherit)]
pub static PIN: Key<u32>;

/// What no other node has a say in.
pub static LOCAL: Key<u32> = Key::new("local").inherit();

mod inner {
    use frame_registry::{Key, frame_key};

    type Attempt = Key<u32>;

    #[deprecated]
    #[frame_key(name = "attempt", stays)]
    pub(crate) static ATTEMPT: Attempt;
}

/// What a node sends: of each pair the name and the value.
fn sent(frame: &Frame) -> Result<Vec<(&'static str, serde_json::Value)>, &'static str> {
    let inherited = frame.fork().seal();
    let pairs = inherited.iter().filter(|pair| pair.boundary() != Some(Boundary::Stays));
    pairs
        .map(|pair| Ok((pair.name(), serde_json::to_value(pair.propagated().ok_or(pair.name())?).unwrap())))
        .collect()
}

fn received(message: &[(&str, serde_json::Value)]) -> Vec<Pair> {
    message.iter().map(|(name, value)| declared_key(name).unwrap().deserialize_pair(value).unwrap()).collect()
}

fn main() -> Result<(), Infallible> {
    let frame: Frame =
        [TENANT.pair("acme".to_owned()), OPEN.pair(Arc::new(1)), PIN.pair(1234)].into_iter().collect();
    let message = sent(&frame).unwrap();
    assert_eq!(message, [("app.tenant", "acme".into()), ("pin", 1234.into())]);

    let there: Frame = received(&message).into_iter().collect();
    assert_eq!(there.get(&TENANT).unwrap(), "acme");
    assert_eq!(there.get(&PIN), Some(&1234));
    assert_eq!(format!("{there:?}"), r#"Frame {"app.tenant": "acme", "pin": <secret>}"#);

    let unknown: Frame = [TENANT.pair("acme".to_owned()), LOCAL.pair(1)].into_iter().collect();
    assert_eq!(sent(&unknown), Err("local"));
    assert!(LOCAL.boundary().is_none() && LOCAL.is_inherited());

    let refused = declared_key("open").unwrap().deserialize_pair(serde_json::json!(1)).unwrap_err();
    assert_eq!(refused.to_string(), "key `open` stays on its node");
    let refused = declared_key("pin").unwrap().deserialize_pair(serde_json::json!("1234")).unwrap_err();
    assert_eq!(refused.to_string(), "the value of key `pin` is not valid");
    let refused = declared_key("app.tenant").unwrap().deserialize_pair(serde_json::json!(7)).unwrap_err();
    assert_eq!(refused.to_string(), "key `app.tenant`: invalid type: integer `7`, expected a string");
    assert_eq!(
        declared_key("tenant").unwrap_err().to_string().split(';').next(),
        Some("no key has the wire name `tenant`")
    );

    let listed: Vec<_> =
        declared_keys().iter().map(|key| (key.name(), key.boundary().as_str(), key.type_name())).collect();
    let all = [
        ("app.tenant", "propagates", "String"),
        ("attempt", "stays", "Attempt"),
        ("open", "stays", "Arc<u32>"),
        ("pin", "propagates", "u32"),
    ];
    assert_eq!(listed, all);
    assert_eq!(declared_key("open").unwrap().doc(), "What is open on this node.");
    assert!(declared_key("attempt").unwrap().module().ends_with("::inner"));
    Ok(())
}
