//! What scripts send with the module `http`: methods, queries, forms, parts and credentials.

use frame_dispatch::lua::LuaConfig;
use frame_net::http::HttpConfig;
use serde_json::{Value as Json, json};

use crate::support::{Script, answers};

const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// The head and the body of the request that a script makes, whose `url` is that of the server.
async fn sent(source: &str) -> (String, String) {
    let (address, served) = answers(EMPTY);
    let script = Script::new(&format!("local url = ... {source}"));
    script.call(json!(format!("http://{address}/a?b=c"))).await.unwrap();
    let (head, body) = served.join().unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// The path and the query of the request line.
async fn path(query: &str) -> String {
    let (head, _) = sent(&format!("http.get(url, {{ query = {query} }})")).await;
    head.split(' ').nth(1).unwrap().to_owned()
}

/// The message of what a script fails with before anything is sent.
async fn refused(source: &str) -> String {
    refused_with(source, HttpConfig::default()).await
}

async fn refused_with(source: &str, config: HttpConfig) -> String {
    let source = format!(
        "local url = 'http://127.0.0.1:1/' local ok, e = pcall(function() {source} end) return {{ ok, e.kind, e.message }}"
    );
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
    let script = Script::with_config(&source, networks, config, LuaConfig::default());
    let returned = script.call(json!(null)).await.unwrap();
    assert_eq!(returned[0], false, "{source}");
    assert_eq!(returned[1], "invalid", "{returned}");
    returned[2].as_str().unwrap().to_owned()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_has_a_function() {
    for (source, line, sent_body) in [
        ("http.get(url)", "GET", ""),
        ("http.head(url)", "HEAD", ""),
        ("http.delete(url)", "DELETE", ""),
        ("http.delete(url, { body = 'x' })", "DELETE", "x"),
        ("http.post(url, 'x')", "POST", "x"),
        ("http.put(url, 'x')", "PUT", "x"),
        ("http.patch(url, nil, { json = { a = 1 } })", "PATCH", r#"{"a":1}"#),
        ("http.request { method = 'PURGE', url = url }", "PURGE", ""),
    ] {
        let (head, body) = sent(source).await;
        assert_eq!(head.split(' ').next(), Some(line), "{source}");
        assert_eq!(body, sent_body, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_to_head_has_no_body() {
    let (address, served) = answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let script =
        Script::new("local r = http.head(...) return { r.status, r.body, r.headers['content-length'] }");
    let got = script.call(json!(format!("http://{address}"))).await.unwrap();
    assert_eq!(got, json!([200, "", "5"]));
    served.join().unwrap();
    assert_eq!(
        refused("http.request { method = 'head', url = url, body = 'x' }").await,
        "a `HEAD` request has no body"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_says_how_it_came() {
    let (address, served) = answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (first, redirected) =
        answers(format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/b\r\nContent-Length: 0\r\n\r\n"));
    let script = Script::new("local r = http.get(...) return { r.version, r.route, r.redirects, r.url }");
    let got = script.call(json!(format!("http://{first}/a"))).await.unwrap();
    assert_eq!(got, json!(["HTTP/1.1", "clearnet", 1, format!("http://{address}/b")]));
    redirected.join().unwrap();
    served.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_sorted_by_name_or_in_the_order_of_a_list() {
    assert_eq!(path("{ z = 1, a = 'x y', m = { 'p', 2, true } }").await, "/a?b=c&a=x+y&m=p&m=2&m=true&z=1");
    assert_eq!(path("{ { 'z', 1 }, { 'a', 2.5 }, { 'z', 'ü&' } }").await, "/a?b=c&z=1&a=2.5&z=%C3%BC%26");
    assert_eq!(path("{}").await, "/a?b=c");
    assert_eq!(path("{ ['a&b='] = '\\xff\\0\\r\\n', none = {} }").await, "/a?b=c&a%26b%3D=%FF%00%0D%0A");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_query_is_refused_by_name() {
    for (query, expected) in [
        ("{ a = {{}} }", "element 1 of `query.a` is a string, a number or a boolean; it is a table"),
        ("{ a = null }", "`query.a` is a string, a number or a boolean; it is"),
        ("{ a = { 'x', y = 1 } }", "`query.a` is a list; it has something under another key, too"),
        ("{ { 'a' } }", "`query[1]` is a pair, { name, value }; it has 1 elements"),
        ("{ { 'a', 'b' }, 'c' }", "`query[2]` is a pair, { name, value }; it is a string"),
        ("{ { 'a', {} } }", "the value in `query[1]` is a string, a number or a boolean; it is a table"),
        ("{ { 'a', 'b' }, c = 'd' }", "`query` is a list; it has something under another key, too"),
        (
            "{ [2] = 'a' }",
            "`query` has names, or is a list of pairs; there is a number in the place of a name",
        ),
        ("{ a = ('x'):rep(70000) }", "`query` has at most 65536 bytes"),
        ("{ a = ('x'):rep(65520) }", "the URL has more than 65534 bytes"),
        ("'a=b'", "`query` is a table; it is a string"),
    ] {
        let message = refused(&format!("http.get(url, {{ query = {query} }})")).await;
        assert!(message.contains(expected), "{query}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_sent_as_browsers_send_it() {
    let (head, body) =
        sent("http.post(url, nil, { form = { name = 'Ada L.', tags = { 'a', 'b' }, age = 36 } })").await;
    assert_eq!(header(&head, "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(body, "age=36&name=Ada+L.&tags=a&tags=b");
    let own = "http.request { method = 'PUT', url = url, form = { { 'b', 1 }, { 'a', 2 } }, headers = { ['Content-Type'] = 'x/y' } }";
    let (head, body) = sent(own).await;
    assert_eq!((header(&head, "content-type"), body.as_str()), (Some("x/y"), "b=1&a=2"));

    let mut config = HttpConfig::default();
    config.max_request_body = 10;
    let message = refused_with("http.post(url, nil, { form = { a = '%%%' } })", config).await;
    assert_eq!(message, "`form` has at most 10 bytes, percent-encoded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_body() {
    for source in [
        "http.post(url, 'x', { form = {} })",
        "http.post(url, nil, { form = {}, json = 1 })",
        "http.put(url, nil, { form = {}, multipart = {} })",
        "http.request { url = url, body = 'x', multipart = {} }",
    ] {
        let message = refused(source).await;
        assert!(
            message.contains("one of `body`, `file`, `form`, `json` and `multipart`"),
            "{source}: {message}"
        );
    }
    assert!(refused("http.get(url, { form = {} })").await.contains("has no member `form`"));
    assert!(refused("http.post(url, nil, { body = '' })").await.contains("has no member `body`"));
}

/// The parts of a body, between the delimiters.
fn parts(head: &str, body: &str) -> Vec<String> {
    let boundary =
        header(head, "content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = body.strip_suffix(&format!("--{boundary}--\r\n")).unwrap();
    let delimiter = format!("--{boundary}\r\n");
    let parts = body.split(&delimiter).skip(1);
    parts.map(|part| part.strip_suffix("\r\n").unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_sorted_by_name_or_in_the_order_of_a_list() {
    let (head, body) = sent(
        r#"http.post(url, nil, { multipart = {
             user = "Ada", age = 36,
             files = { { body = "one", file_name = "1.txt", content_type = "text/plain" }, { body = "two", file_name = 'a"b\r\n.bin' } },
           } })"#,
    )
    .await;
    let expected = [
        "Content-Disposition: form-data; name=\"age\"\r\n\r\n36",
        "Content-Disposition: form-data; name=\"files\"; filename=\"1.txt\"\r\nContent-Type: text/plain\r\n\r\none",
        "Content-Disposition: form-data; name=\"files\"; filename=\"a%22b%0D%0A.bin\"\r\n\
         Content-Type: application/octet-stream\r\n\r\ntwo",
        "Content-Disposition: form-data; name=\"user\"\r\n\r\nAda",
    ];
    assert_eq!(parts(&head, &body), expected);

    let (head, body) = sent(
        r#"http.put(url, nil, { multipart = { { name = "b", body = "1" }, { name = "a", body = true }, { name = "b", body = "" } } })"#,
    )
    .await;
    let part =
        |name: &str, body: &str| format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{body}");
    assert_eq!(parts(&head, &body), [part("b", "1"), part("a", "true"), part("b", "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_part_is_refused_by_name() {
    for (options, expected) in [
        ("multipart = { { body = 'x' } }", "`multipart[1]` has a `name`; it is missing"),
        ("multipart = { 'x' }", "`multipart[1]` is a part"),
        ("multipart = { a = {} }", "`multipart.a` has a `body`, or a `file`; both are missing"),
        (
            "multipart = { a = { body = 'x', filename = 'y' } }",
            "`multipart.a` has no member `filename`; did you mean `file_name`?",
        ),
        (
            "multipart = { a = { body = {} } }",
            "the body of `multipart.a` is a string, a number or a boolean; it is a table",
        ),
        (
            "multipart = { a = { body = 'x', content_type = 'a\\r\\nb: c' } }",
            "`content_type` of the part `a`",
        ),
        ("multipart = { ['\\xff'] = 'x' }", "UTF-8"),
        (
            "multipart = { a = 'x' }, headers = { ['content-type'] = 'a/b' }",
            "which names its boundary; leave it out",
        ),
    ] {
        let message = refused(&format!("http.post(url, nil, {{ {options} }})")).await;
        assert!(message.contains(expected), "{options}: {message}");
    }
    let mut config = HttpConfig::default();
    config.max_request_body = 300;
    let message = refused_with("http.post(url, nil, { multipart = { a = ('x'):rep(100) } })", config).await;
    assert!(message.contains("`multipart` has at most 300 bytes"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sent_in_their_header() {
    let basic = "http.get(url, { basic = { username = 'Aladdin', password = 'open sesame' } })";
    assert_eq!(header(&sent(basic).await.0, "authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let bearer = "http.delete(url, { bearer = 'mF_9.B5f-4.1JqM' })";
    assert_eq!(header(&sent(bearer).await.0, "authorization"), Some("Bearer mF_9.B5f-4.1JqM"));
    for (options, expected) in [
        ("basic = { username = 'a:b', password = '31337' }", "a user name cannot contain `:`"),
        ("basic = { username = 'a', password = '31337\\n' }", "control characters"),
        ("basic = { username = 'a' }", "`password` is missing"),
        (
            "basic = { user = 'a', password = '31337' }",
            "`basic` has no member `user`; there are password, username",
        ),
        ("bearer = '31337 x'", "visible ASCII"),
        ("bearer = '31337', basic = {}", "`basic`, or `bearer`, and not both"),
        ("bearer = '31337', headers = { Authorization = 'x' }", "the header `authorization`, or `basic`"),
    ] {
        let message = refused(&format!("http.get(url, {{ {options} }})")).await;
        assert!(message.contains(expected) && !message.contains("31337"), "{options}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_is_too_large_to_be_refused() {
    for source in [
        "local t = {} for i = 1, 200000 do t[i] = { 'a', 'b' } end http.post(url, nil, { form = t })",
        "local t = {} for i = 1, 200000 do t[i] = 'a' end http.post(url, nil, { form = { a = t } })",
        "local t = {} for i = 1, 200000 do t['a' .. i] = 'a' end http.post(url, nil, { form = t })",
    ] {
        let message = refused(source).await;
        assert!(message.contains("at most 65536 pairs"), "{source}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_of_headers_is_too_large_to_be_refused() {
    let source = "local t = {} for i = 1, count do t['a' .. i] = 'a' end http.get('http://127.0.0.1:1/', { headers = t })";
    let source = format!(
        "local count = ... local ok, e = pcall(function() {source} end) return {{ ok, e.kind, e.message }}"
    );
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
    let limits = LuaConfig::default().with_memory(512 << 20);
    let script = Script::with_config(&source, networks, HttpConfig::default(), limits);
    for count in [20_000, 600_000] {
        let returned = script.call(json!(count)).await.unwrap();
        assert_eq!(returned[1], "invalid", "{returned}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_header_gives_way_to_that_of_a_script() {
    let config: HttpConfig =
        serde_json::from_value(json!({ "headers": { "user-agent": "shop/1.0" } })).unwrap();
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
    let source = "local p = ... http.get(p.url, { headers = p.headers })";
    for (headers, expected) in [(json!({}), "shop/1.0"), (json!({ "User-Agent": "own" }), "own")] {
        let (address, served) = answers(EMPTY);
        let script = Script::with_config(source, networks.clone(), config.clone(), LuaConfig::default());
        let payload: Json = json!({ "url": format!("http://{address}"), "headers": headers });
        script.call(payload).await.unwrap();
        let (head, _) = served.join().unwrap();
        assert_eq!(header(&head, "user-agent"), Some(expected));
    }
}
