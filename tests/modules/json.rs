//! The module `json` of scripts.

use frame_dispatch::ErrorKind;
use frame_dispatch::lua::LuaConfig;
use frame_net::http::HttpConfig;
use serde_json::{Value as Json, json};

use crate::support::Script;

async fn returned(source: &str) -> Json {
    Script::new(source).call(json!(null)).await.unwrap()
}

#[tokio::test]
async fn values_keep_what_they_are() {
    let text = r#"{"a":[],"b":{},"c":null,"d":[1,2.5,-3,true,"\u0000ä"],"e":18446744073709551615}"#;
    let got = returned(&format!("return json.decode([==[{text}]==])")).await;
    assert_eq!(got["e"], 18_446_744_073_709_551_615_f64);
    let expected: Json = serde_json::from_str(text).unwrap();
    for member in ["a", "b", "c", "d"] {
        assert_eq!(got[member], expected[member]);
    }
    let got = returned("return json.encode { array {}, {}, null, 'x', 1.5, false }").await;
    assert_eq!(got, r#"[[],{},null,"x",1.5,false]"#);
    assert_eq!(returned("return json.encode() .. json.encode(json.decode('null'))").await, "nullnull");
}

#[tokio::test]
async fn what_is_no_json_is_invalid() {
    let deep = format!("json.decode(('['):rep({0}) .. (']'):rep({0}))", 1000);
    for source in ["json.decode('')", "json.decode('{')", "json.decode('1 2')", "json.decode('{1:2}')", &deep]
    {
        let error = Script::new(source).call(json!(null)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{source}: {error}");
    }
    let error = Script::new("json.encode({ f = print })").call(json!(null)).await.unwrap_err();
    assert_eq!(
        error.message(),
        "the value.f is a function, which is not valid JSON; return a table, string, number or boolean"
    );
}

#[tokio::test]
async fn what_is_decoded_is_memory_of_the_script() {
    let config = LuaConfig::default().with_memory(4 << 20);
    let source = "json.decode('[' .. ('[],'):rep(300000) .. '[]]')";
    let script = Script::with_config(source, json!({}), HttpConfig::default(), config);
    let error = script.call(json!(null)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
}
