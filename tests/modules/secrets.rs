//! Secrets that scripts and components name.

use frame_dispatch::lua::LuaConfig;
use frame_net::secrets::{SECRET_STORE, SecretStore, StoredSecret};
use frame_registry::Options;
use serde_json::{Value as Json, json};

use crate::support::Script;
use crate::tls_server::{TlsServer, header, response};

const VALUE: &str = "sk_live_31337";

/// A server that says `paid`, or sends back what it is asked.
fn shop() -> TlsServer {
    TlsServer::new(|request| match request.split(' ').nth(1) {
        Some("/echo") => response("200 OK", "", request),
        Some("/events") => response("200 OK", "Content-Type: text/event-stream\r\n", "data: paid\n\n"),
        _ => response("200 OK", "", "paid"),
    })
}

/// The secret `app:shop`, which is for `shop`.
fn store(shop: &TlsServer) -> SecretStore {
    let host = format!("localhost:{}", shop.address.port()).parse().unwrap();
    [("app:shop".parse().unwrap(), StoredSecret::new(VALUE, [host]).unwrap())].into_iter().collect()
}

fn clearnet() -> Json {
    json!({ "clearnet": { "allow": ["127.0.0.0/8", "localhost"] } })
}

/// The settings of a client that trusts `shop`, whose certificate is in this directory then.
fn settings(shop: &TlsServer, directory: &tempfile::TempDir) -> Json {
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, &shop.ca_pem).unwrap();
    json!({ "roots": "only", "ca_files": [path] })
}

/// What a script returns that is granted the secret, or what it fails with.
struct Scripts {
    script: Script,
    _directory: tempfile::TempDir,
}

impl Scripts {
    fn new(shop: &TlsServer, source: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let http = serde_json::from_value(settings(shop, &directory)).unwrap();
        let set = |app: &mut frame_registry::AppBuilder| {
            app.set(&SECRET_STORE, store(shop)).unwrap();
        };
        let script = Script::with_app(source, clearnet(), http, LuaConfig::default(), set);
        Self { script, _directory: directory }
    }

    async fn call(&self, url: String) -> Json {
        let granted = json!({ "secrets": ["app:shop"] });
        self.script.call_with(&self.script.functions.root(), json!(url), granted).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_request_of_a_script_carries_its_secret() {
    let shop = shop();
    let scripts = Scripts::new(
        &shop,
        r#"local url = ...
           local options = { secret = "app:shop" }
           local request = { url = url, secret = "app:shop" }
           local upload = http.upload { url = url, secret = "app:shop", length = 1 }
           upload:write("x")
           local events = http.events(url .. "events", options)
           local answers = {
             http.get(url, options).body, http.post(url, "x", options).body, http.delete(url, options).body,
             http.request { url = url, secret = "app:shop", stream = true }.body:read_all(),
             upload:finish().body, http.all({ request, request })[2].body, events:next().data,
           }
           for _, answer in ipairs(answers) do assert(answer == "paid", answer) end
           return #answers"#,
    );
    assert_eq!(scripts.call(shop.url("/")).await, 7);
    let requests = shop.requests();
    assert_eq!(requests.len(), 8);
    for request in requests {
        assert_eq!(header(&request, "authorization"), Some("Bearer sk_live_31337"), "{request}");
        assert!(!request.contains("secret") && request.matches(VALUE).count() == 1, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_asks_for_its_own_request_does_not_get_it() {
    let shop = shop();
    let scripts = Scripts::new(
        &shop,
        r#"local ok, e = pcall(http.get, ..., { secret = "app:shop" })
           return { ok, e.kind, e.message, e.retryable }"#,
    );
    let failed = scripts.call(shop.url("/echo")).await;
    let message = format!(
        "localhost:{} sent the secret `app:shop` back, so its response is not passed on",
        shop.address.port()
    );
    assert_eq!(failed, json!([false, "denied", message, false]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_sent_is_an_error_in_words() {
    let shop = shop();
    let cases = [
        ("http.get(url, { secret = 'app:other' })", "denied", "the secret `app:other` is not granted"),
        (
            "http.get(url, { secret = 'sk_live_31337' })",
            "invalid",
            "`secret` is the id of a secret, such as \"app:stripe\"",
        ),
        ("http.get(url, { secret = 5 })", "invalid", "`secret`"),
        (
            "http.get(url:gsub('localhost', '127.0.0.1'), { secret = 'app:shop' })",
            "denied",
            "may not be sent to 127.0.0.1",
        ),
        ("http.get(url:gsub('https', 'http'), { secret = 'app:shop' })", "denied", "over TLS only"),
        (
            "http.get(url, { secret = 'app:shop', bearer = 'mine' })",
            "invalid",
            "the header `authorization` itself",
        ),
        ("http.request { url = url, secret = 'app:shop', method = 'TRACE' }", "invalid", "`TRACE`"),
        ("websocket.connect(url:gsub('https', 'ws'), { secret = 'app:shop' })", "denied", "`wss`"),
    ];
    for (source, kind, expected) in cases {
        let source = source.replace("(url:gsub", "((url:gsub").replace("'),", "')),");
        let source = format!(
            "local url = ... local ok, e = pcall(function() {source} end) return {{ e.kind, e.message }}"
        );
        let failed = Scripts::new(&shop, &source).call(shop.url("/")).await;
        assert_eq!(failed[0], kind, "{source}: {failed}");
        let message = failed[1].as_str().unwrap();
        assert!(message.contains(expected) && !message.contains(VALUE), "{source}: {message}");
    }
    assert_eq!(shop.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_calls_has_its_secrets_or_less() {
    let shop = shop();
    let pays =
        r#"local ok, e = pcall(http.get, ..., { secret = "app:shop" }) return ok and "paid" or e.message"#;
    let scripts = Scripts::new(
        &shop,
        r#"local url = ...
           local function tried(...) local ok, answer = pcall(call, ...) return ok and answer or answer.message end
           return {
             tried("app:pays", url), tried("app:pays", url, { secrets = array {} }),
             tried("app:pays", url, { secrets = { "app:shop" } }), tried("app:pays", url, { secrets = { "app:other" } }),
             tried("app:preset", url), tried("app:preset", url, { secrets = { "app:shop" } }),
           }"#,
    );
    scripts.script.add("app:pays", pays, LuaConfig::default());
    let preset = Options::from_json(&json!({ "secrets": ["app:shop"] })).unwrap();
    scripts.script.add_with("app:preset", pays, preset);
    let url = shop.url("/");
    let by_granted = scripts.call(url.clone()).await;
    let ungranted = scripts.script.call(json!(url)).await.unwrap();
    let is = |answer: &Json, expected: &str| assert!(answer.as_str().unwrap().contains(expected), "{answer}");
    for (answers, own) in [(&by_granted, "paid"), (&ungranted, "is not granted to this unit")] {
        is(&answers[0], own);
        is(&answers[1], "is not granted to this unit");
        is(&answers[2], if own == "paid" { own } else { "its frame was refused" });
        is(&answers[3], "its frame was refused");
        // Who may call it may have it pay, and cannot put its own options in the place of the preset.
        is(&answers[4], "paid");
        is(&answers[5], "its frame was refused");
    }
}

#[cfg(feature = "wasm")]
mod components {
    use super::*;
    use crate::wasi_http::guest::{Ask, Outcome, World};

    /// `https`, in `wasi:http`.
    const HTTPS: u32 = 1;

    async fn ask(shop: &TlsServer, ask: Ask, options: Json) -> Outcome {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(shop, &directory);
        let world =
            World::with_app(&clearnet(), settings, |app| _ = app.set(&SECRET_STORE, store(shop)).unwrap());
        let mut outcomes = world.call(&ask, &options).await.unwrap();
        outcomes.remove(0)
    }

    fn of(shop: &TlsServer, path: &str, secrets: &[&str]) -> Ask {
        let authority = format!("localhost:{}", shop.address.port());
        let ask = Ask { scheme: HTTPS, path: path.to_owned(), ..Ask::get(authority) };
        secrets.iter().fold(ask, |ask, secret| ask.header("Frame-Secret", secret))
    }

    #[tokio::test]
    async fn a_component_names_its_secret_in_a_header_that_the_host_takes_away() {
        let shop = shop();
        let granted = json!({ "secrets": ["app:shop"] });
        let answer = ask(&shop, of(&shop, "/", &["app:shop"]).header("x-a", "1"), granted).await.response();
        assert_eq!((answer.status, answer.text()), (200, "paid"));
        let request = shop.requests().remove(0);
        assert_eq!(header(&request, "authorization"), Some("Bearer sk_live_31337"));
        assert_eq!((header(&request, "frame-secret"), header(&request, "x-a")), (None, Some("1")));
    }

    #[tokio::test]
    async fn a_component_that_may_not_use_a_secret_sends_nothing() {
        let shop = shop();
        let granted = json!({ "secrets": ["app:shop"] });
        let by_address = Ask { authority: shop.address.to_string(), ..of(&shop, "/", &["app:shop"]) };
        let cases = [
            (of(&shop, "/", &["app:shop"]), json!({})),
            (of(&shop, "/", &["app:other"]), granted.clone()),
            (of(&shop, "/", &["app:shop", "app:shop"]), granted.clone()),
            (of(&shop, "/", &["no id"]), granted.clone()),
            (of(&shop, "/", &["app:shop"]).header("authorization", "mine"), granted.clone()),
            (Ask { scheme: 0, ..of(&shop, "/", &["app:shop"]) }, granted.clone()),
            (by_address, granted),
        ];
        for (asked, options) in cases {
            let shown = format!("{:?} {options}", asked.headers);
            let outcome = ask(&shop, asked, options).await;
            assert_eq!(outcome, Outcome::Failed("HTTP-request-denied"), "{shown}");
        }
        assert_eq!(shop.requests().len(), 0);
    }

    #[tokio::test]
    async fn a_component_that_asks_for_its_own_request_does_not_get_it() {
        let shop = shop();
        let granted = json!({ "secrets": ["app:shop"] });
        let answer = ask(&shop, of(&shop, "/echo", &["app:shop"]), granted).await.response();
        assert_eq!(answer.ended, Err(Some("HTTP-request-denied")));
        assert!(!answer.text().contains("sk"), "{}", answer.text());
    }
}
