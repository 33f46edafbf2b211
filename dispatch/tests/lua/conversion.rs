//! Payloads and results.

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::{ErrorKind, Payload};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::support::{Script, failed, returned};

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_filter("JSON has it", |number| number.is_finite()).prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_comes_back_as_it_went_in(json in any_json()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let script = Script::new("return ...");
        let back = runtime.block_on(script.json(json.clone()));
        prop_assert_eq!(back, json);
    }
}

#[tokio::test]
async fn bytes_are_a_string_and_back() {
    let script = Script::new("local s = ... return bytes(s:reverse())");
    let bytes = vec![0, 255, 128, 1];
    assert_eq!(script.call(bytes).await.unwrap(), Payload::Bytes(vec![1, 128, 255, 0]));
}

#[tokio::test]
async fn tables_become_arrays_and_objects() {
    assert_eq!(returned("return {}").await, json!({}));
    assert_eq!(returned("return array{}").await, json!([]));
    assert_eq!(returned("return array()").await, json!([]));
    assert_eq!(returned("return { 1, null, 'x' }").await, json!([1, null, "x"]));
    assert_eq!(returned("return { a = { b = array { 1 } } }").await, json!({ "a": { "b": [1] } }));
    assert_eq!(returned("return 1, 2").await, json!(1));
    assert_eq!(returned("return 1.0").await, json!(1.0));
    assert_eq!(returned("return nil").await, json!(null));
}

#[tokio::test]
async fn a_whole_number_that_is_no_integer_of_lua_is_refused() {
    let script = Script::new("return { math.type(...), ... }");
    assert_eq!(script.json(json!(i64::MAX)).await, json!(["integer", i64::MAX]));
    assert_eq!(script.json(json!(1e300)).await, json!(["float", 1e300]));
    for payload in [json!(u64::MAX), json!({ "a": [1, { "b": u64::MAX }] })] {
        let error = script.call(payload).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("the number 18446744073709551615, which is larger"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_by_its_path() {
    let refused = [
        ("return { a = { { b = print } } }", "the result.a[1].b is a function"),
        ("return { 0/0 }", "the result[1] is "),
        ("return { x = 1/0 }", "the result.x is inf"),
        ("return { 1, 2, x = 3 }", "the keys 1 to 2 and also \"x\""),
        ("return { [1] = 1, [2] = 2, [9] = 9 }", "neither an array nor an object"),
        ("return { [2] = 1 }", "a table with the key 2"),
        ("return { [true] = 1 }", "a table with the key true"),
        ("local t = {} t.t = t return t", "the result.t is a table that contains itself"),
        ("local t = {} for i = 1, 1000 do t = { t } end return t", "nested more than 128 levels deep"),
        ("return '\\xff'", "not UTF-8, so no JSON; give bytes(s)"),
        ("return { ['\\xff'] = 1 }", "not UTF-8"),
        ("return { bytes('x') }", "the result[1] is bytes"),
        ("return coroutine.create(print)", "the result is a thread"),
    ];
    for (source, message) in refused {
        let error = failed(source).await;
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains(message), "{source}: {error}");
    }
}

#[tokio::test]
async fn a_result_has_a_largest_size() {
    let config = LuaConfig::default().with_payload(1000);
    for source in [
        "return ('x'):rep(2000)",
        "return bytes(('x'):rep(2000))",
        "local t = {} for i = 1, 2000 do t[i] = 1 end return t",
        "local t = 'x' for i = 1, 60 do t = { t, t } end return t",
        "call('app:script', ('x'):rep(2000))",
    ] {
        let error = Script::with_config(source, config.clone()).call(json!(null)).await.expect_err(source);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{source}: {error}");
    }
    let script = Script::with_config("return ('x'):rep(500)", config);
    assert_eq!(script.json(json!(null)).await.as_str().unwrap().len(), 500);
}

#[tokio::test]
async fn a_payload_that_does_not_fit_the_vm_is_too_much() {
    let script = Script::with_config("return 1", LuaConfig::default().with_memory(1 << 20));
    let error = script.call(vec![0; 2 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(script.json(json!(null)).await, 1);
}
