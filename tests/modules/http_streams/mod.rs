//! What the module `http` does piece by piece, and several requests at once.

mod guide;
mod server;

use std::sync::atomic::Ordering;
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::{CallError, ErrorKind, Functions, Payload, Task};
use frame_net::http::{HttpClient, HttpConfig};
use frame_registry::{App, FrameResolvers, Options};
use frame_runtime::fs_root::{FS_BASE, FS_ROOT, Root};
use frame_runtime::modules::lua::{FsModule, HttpModule};
use serde_json::{Value as Json, json};

pub(crate) use self::server::Server;
use crate::support::soon;

/// A script with a directory, and a server.
struct World {
    functions: Functions,
    base: tempfile::TempDir,
    server: Server,
}

impl World {
    fn new(source: &str) -> Self {
        Self::with(source, HttpConfig::default(), LuaConfig::default(), &json!({}))
    }

    fn with(source: &str, http: HttpConfig, config: LuaConfig, limits: &Json) -> Self {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("room")).unwrap();
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&FS_BASE, Root::open(base.path()).unwrap()).unwrap();
        let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "limits": limits });
        frame_net::boot(&mut app, serde_json::from_value(networks).unwrap()).unwrap();
        let functions = Functions::new(app.build());
        let http = HttpModule::new(HttpClient::new(http).unwrap());
        let engine = LuaEngine::builder().module(http).module(FsModule::new()).build().unwrap();
        let function = engine.function("script", source, config).unwrap();
        let preset = Options::new().with(&FS_ROOT, "room".parse().unwrap());
        functions.register("app:script".parse().unwrap(), preset, function).unwrap();
        Self { functions, base, server: Server::new() }
    }

    /// What the script returns for the URL of the server.
    async fn call(&self) -> Result<Json, CallError> {
        let task = Task::new("app:script".parse().unwrap()).with_payload(json!(self.server.base()));
        match soon(self.functions.root().call(task)).await? {
            Payload::Json(json) => Ok(json),
            other => panic!("{other:?} is no JSON"),
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.base.path().join("room").join(name)
    }
}

async fn run(source: &str) -> Json {
    World::new(source).call().await.unwrap()
}

/// The kind and the message of what the source fails with.
async fn failed(source: &str) -> (String, String) {
    failed_in(World::new(&caught(source))).await
}

fn caught(source: &str) -> String {
    format!(
        "local base = ... local ok, e = pcall(function() {source} end) return {{ ok, e.kind, e.message }}"
    )
}

async fn failed_in(world: World) -> (String, String) {
    let returned = world.call().await.unwrap();
    assert_eq!(returned[0], false);
    (returned[1].as_str().unwrap().to_owned(), returned[2].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_streamed_is_read_in_pieces() {
    let returned = run("local response <close> = http.get(... .. '/bytes/1000000', { stream = true })
         local first, count, largest = response.body:read(10), 0, 0
         for piece in response.body:chunks() do
             count, largest = count + #piece, math.max(largest, #piece)
         end
         return { response.status, first, count, largest <= 65536, response.body:read() == nil }");
    assert_eq!(returned.await, json!([200, "xxxxxxxxxx", 999_990, true, true]));
    let all = run("return http.get(... .. '/bytes/70000', { stream = true }).body:read_all():len()");
    assert_eq!(all.await, 70_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_reads_more_than_its_memory_and_no_more_than_it_allows() {
    let source = "local count = 0
         for piece in http.get(... .. '/bytes/60000000', { stream = true }).body:chunks() do count = count + #piece end
         return count";
    let config = LuaConfig::default().with_memory(4 << 20);
    let world = World::with(source, HttpConfig::default(), config.clone(), &json!({}));
    assert_eq!(world.call().await.unwrap(), 60_000_000);

    let (kind, message) = failed(
        "for _ in http.get(base .. '/bytes/60000000', { stream = true, max_body = 100000 }).body:chunks() do end",
    )
    .await;
    assert!(kind == "exhausted" && message.ends_with("the limit of `max_body`"), "{message}");
    let source = caught("http.get(base .. '/bytes/60000000', { stream = true }).body:read_all()");
    let (kind, _) = failed_in(World::with(&source, HttpConfig::default(), config.clone(), &json!({}))).await;
    assert_eq!(kind, "exhausted");
    let mut http = HttpConfig::default();
    http.max_streamed_body = Some(1000);
    let source = caught("http.get(base .. '/bytes/1001', { stream = true, max_body = 5000 }).body:read()");
    let (kind, message) = failed_in(World::with(&source, http, config, &json!({}))).await;
    assert!(kind == "exhausted" && message.ends_with("the limit of `max_streamed_body`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_to_a_file_and_a_file_is_a_body() {
    let world = World::new(
        "local base = ...
         fs.write('big', 'much longer than what follows')
         local saved = http.get(base .. '/bytes/300000', { stream = true }).body:save('big')
         local put = http.request { method = 'PUT', url = base .. '/framing', file = 'big' }
         return { saved, fs.stat('big').size, put.body }",
    );
    assert_eq!(world.call().await.unwrap(), json!([300_000, 300_000, "300000 300000"]));
    assert_eq!(std::fs::read(world.file("big")).unwrap().len(), 300_000);

    for (source, kind, words) in [
        ("http.request { url = base .. '/echo', file = 'none' }", "not_found", "\"none\" does not exist"),
        ("http.request { url = base .. '/echo', file = '../x' }", "denied", "it has `..` in it"),
        (
            "http.request { url = base .. '/echo', file = 'a', body = 'b' }",
            "invalid",
            "one of `body`, `file`, `form`",
        ),
        ("http.get(base .. '/hello', { stream = true }).body:save('/x')", "denied", "it is absolute"),
        ("http.get(base .. '/hello', { stream = true }).body:save('.')", "invalid", "is a directory"),
    ] {
        let (found, message) = failed(source).await;
        assert!(found == kind && message.contains(words), "{source}: {found}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_written_in_pieces() {
    let returned = run(
        "local base = ...
         local out = {}
         for i, length in ipairs { false, 6 } do
             local upload <close> = http.upload { method = 'PUT', url = base .. '/framing', length = length or nil }
             upload:write('one') upload:write('') upload:write('two')
             out[i] = upload:finish().body
         end
         local big <close> = http.upload { method = 'POST', url = base .. '/framing' }
         for _ = 1, 100 do big:write(('x'):rep(100000)) end
         out[3] = big:finish().body
         return out",
    );
    assert_eq!(returned.await, json!(["chunked 6", "6 6", "chunked 10000000"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_a_post_unless_its_method_is_given() {
    let returned = run("local base = ...
         local function of(method)
             local upload <close> = http.upload { method = method, url = base .. '/method' }
             return upload:finish().body
         end
         return { of(nil), of('PUT') }");
    assert_eq!(returned.await, json!(["POST", "PUT"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_finished_is_not_taken_for_whole() {
    let (kind, message) = failed(
        "local u = http.upload { method = 'POST', url = base .. '/echo', length = 5 } u:write('toolong') u:finish()",
    )
    .await;
    assert!(
        kind == "invalid" && message.contains("its length was given as 5 bytes, and it has more"),
        "{message}"
    );
    let source = "local u = http.upload { method = 'POST', url = base .. '/echo' } u:close() u:write('x')";
    let (kind, message) = failed(source).await;
    assert!(kind == "invalid" && message == "the upload is closed", "{message}");
    let source = "local u = http.upload { method = 'POST', url = base .. '/echo' } u:finish() u:finish()";
    assert_eq!(failed(source).await.0, "invalid");

    // The third piece is taken once the first is sent.
    let world = World::new(
        "local u = http.upload { method = 'POST', url = ... .. '/echo' } for _ = 1, 3 do u:write('x') end return 1",
    );
    world.call().await.unwrap();
    world.server.closes(0).await;
    assert_eq!(world.server.whole.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_early_takes_no_more() {
    let returned = run("local upload <close> = http.upload { method = 'POST', url = ... .. '/early' }
         local written = 0
         while written < 100000000 and upload:write(('x'):rep(100000)) do written = written + 100000 end
         local response = upload:finish()
         return { response.status, response.body, written < 100000000 }");
    assert_eq!(returned.await, json!([413, "too much", true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stalls_ends_with_a_deadline_that_names_the_setting() {
    let source = "local r = http.get(base .. '/stall', { stream = true, stall_timeout = 0.1 }) r.body:read() r.body:read()";
    let (kind, message) = failed(source).await;
    assert!(kind == "deadline" && message.ends_with("for 100ms, the limit of `stall_limit`"), "{message}");
    let source = "local u = http.upload { method = 'POST', url = base .. '/deaf', stall_timeout = 0.1 }
         while true do u:write(('x'):rep(100000)) end";
    let (kind, message) = failed(source).await;
    assert!(kind == "deadline" && message.contains("`stall_limit`"), "{kind} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_does_not_wait_for_a_server_that_has_answered_and_does_not_read() {
    let returned = run("local upload <close> = http.upload { method = 'POST', url = ... .. '/answered', stall_timeout = 0.1 }
         local written = 0
         while upload:write(('x'):rep(100000)) do written = written + 1 end
         return { written < 1000, upload:finish().body }");
    assert_eq!(returned.await, json!([true, "answered"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_taken_holds_little_of_what_is_written() {
    let source = "local u = http.upload { method = 'POST', url = base .. '/deaf', stall_timeout = 0.1 }
         u:write(('x'):rep(20000000)) error('it was taken')";
    let (kind, message) = failed(source).await;
    assert!(kind == "deadline" && message.contains("`stall_limit`"), "{kind} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_some_streams_at_a_time_and_closes_them_when_it_ends() {
    let world = World::new(
        "local base, open = ..., {}
         for i = 1, 16 do open[i] = http.get(base .. '/stall', { stream = true }) end
         local ok, e = pcall(http.get, base .. '/hello', { stream = true })
         local whole = http.get(base .. '/hello').body
         open[16].body:close()
         local again = http.get(base .. '/hello', { stream = true }).body:read_all()
         -- What no variable has any more makes room.
         for i = 1, 40 do http.get(base .. '/stall', { stream = true }) open = nil end
         return { ok, e.kind, e.retryable, whole, again }",
    );
    assert_eq!(world.call().await.unwrap(), json!([false, "exhausted", false, "hello", "hello"]));
    world.server.closes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_never_reads_its_streams_uses_up_its_own_connections() {
    let source = "local base, open = ..., {}
         for i = 1, 3 do open[i] = http.get(base .. '/stall', { stream = true }) end
         local ok, e = pcall(http.get, base .. '/hello')
         open[1].body:close()
         return { ok, e.kind, e.message, http.get(base .. '/hello').body }";
    let limits = json!({ "connections": 100, "connections_per_unit": 3 });
    let world = World::with(source, HttpConfig::default(), LuaConfig::default(), &limits);
    let returned = world.call().await.unwrap();
    assert_eq!(
        (&returned[0], &returned[1], &returned[3]),
        (&json!(false), &json!("exhausted"), &json!("hello"))
    );
    assert!(returned[2].as_str().unwrap().contains('3'), "{returned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_follow_a_body() {
    let returned = run(
        "local url = ... .. '/trailers'
         local stream = http.get(url, { stream = true }).body
         local before, body = stream:trailers(), stream:read_all()
         return { http.get(url).trailers['x-sum'], before == nil, body, stream:trailers()['x-sum'], http.get(... .. '/hello').trailers == nil }",
    );
    assert_eq!(returned.await, json!(["42", true, "body", "42", true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_follow_an_upload() {
    let returned = run("local base = ...
         local function upload(length)
             local up <close> = http.upload {
                 method = 'POST', url = base .. '/trailers-sent', trailers = { 'X-Sum', 'x-more' }, length = length,
             }
             up:write('bo') up:write('dy')
             return up:finish({ ['X-Sum'] = '42' }).body
         end
         local none <close> = http.upload { method = 'POST', url = base .. '/trailers-sent', trailers = { 'x-sum' } }
         return { upload(), upload(4), none:finish().body }");
    let expected = "x-sum,x-more|x-sum: 42\r\n|body";
    assert_eq!(returned.await, json!([expected, expected, "x-sum||"]));

    let upload = |options: &str, finish: &str| {
        format!(
            "local up <close> = http.upload {{ method = 'POST', url = base .. '/echo', {options} }} up:finish({finish})"
        )
    };
    for (source, words) in [
        (upload("", "{ ['x-sum'] = '42' }"), "the trailer `x-sum` was not announced"),
        (upload("trailers = { 'x-sum' }", "{ ['x-sum'] = 42 }"), "the header `x-sum` is a string"),
        (upload("trailers = { 'x-sum' }", "{ ['x-sum'] = 'a\\r\\nb: c' }"), "not a valid header value"),
        (upload("trailers = { 'x sum' }", ""), "no trailer can be called `x sum`"),
        (upload("trailers = { x = 1 }", ""), "`trailers` is a list"),
        (upload("trailers = { 1 }", ""), "`trailers` is a list of names; there is a number"),
        (upload("trailers = { 'content-length' }", ""), "`content-length`"),
        (upload("trailers = { 'authorization' }", ""), "a body cannot have the trailer `authorization`"),
    ] {
        let (kind, message) = failed(&source).await;
        assert!(kind == "invalid" && message.contains(words), "{source}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_can_be_a_file() {
    let world = World::new(
        "local base = ...
         fs.mkdir('logs') fs.write('logs/a.txt', 'hello') fs.write('big.bin', ('x'):rep(1000000))
         local url = base .. '/form'
         local small = http.post(url, nil, { multipart = {
             a = 1, b = { file = 'logs/a.txt', content_type = 'text/plain' }, c = { file = 'logs/a.txt', file_name = 'b.log' },
         } }).body
         local big = http.request {
             method = 'PUT', url = url, multipart = { { name = 'big', file = 'big.bin' }, { name = 'end', body = '.' } },
         }.body
         local together = http.all { { method = 'POST', url = url, multipart = { f = { file = 'logs/a.txt' } } } }
         return { small, #big, together[1].status }",
    );
    let returned = world.call().await.unwrap();
    let part = |head: &str, body: &str| {
        format!("--B\r\nContent-Disposition: form-data; name={head}\r\n\r\n{body}\r\n")
    };
    let parts = [
        part("\"a\"", "1"),
        part("\"b\"; filename=\"a.txt\"\r\nContent-Type: text/plain", "hello"),
        part("\"c\"; filename=\"b.log\"\r\nContent-Type: application/octet-stream", "hello"),
        "--B--\r\n".to_owned(),
    ]
    .concat();
    // Each boundary has 31 bytes more than its replacement.
    let length = parts.len() + 4 * 31;
    assert_eq!(returned[0], format!("{length}|{parts}"));
    assert!(returned[1].as_u64().unwrap() > 1_000_000, "{returned}");
    assert_eq!(returned[2], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_no_file_fails_the_request() {
    let form = |part: &str| format!("http.post(base .. '/form', nil, {{ multipart = {{ a = {part} }} }})");
    for (part, expected, words) in [
        ("{ file = 'none' }", "not_found", "none"),
        ("{ file = '../x' }", "denied", "`..`"),
        ("{ file = '/etc/passwd' }", "denied", "absolute"),
        ("{ file = 'x', body = 'y' }", "invalid", "`multipart.a` has a `body`, or a `file`, and not both"),
        ("{ file_name = 'x' }", "invalid", "`multipart.a` has a `body`, or a `file`; both are missing"),
        ("{ file = {} }", "invalid", "`file` is a string; it is a table"),
        ("{ file = '\\xff' }", "invalid", "`multipart.a` needs a `file_name`"),
    ] {
        let (kind, message) = failed(&form(part)).await;
        assert!(kind == expected && message.contains(words), "{part}: {kind}: {message}");
    }
    let limits = json!({ "connections": 100, "connections_per_unit": 3 });
    let source =
        "fs.write('x', 'y') local parts = {} for i = 1, 10 do parts[i] = { name = 'a', file = 'x' } end
         http.post(base .. '/form', nil, { multipart = parts })";
    let world = World::with(&caught(source), HttpConfig::default(), LuaConfig::default(), &limits);
    let (kind, message) = failed_in(world).await;
    assert!(kind == "exhausted" && message.contains('3'), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_is_decoded_unless_that_is_turned_off() {
    let returned = run("local url = ... .. '/gzip'
         local raw = http.get(url, { decode = false }).body
         local own = http.get(url, { headers = { ['accept-encoding'] = 'gzip' } }).body
         local stream = http.get(url, { stream = true }).body:read_all()
         local response = http.get(url)
         return { response.body, response.headers['content-encoding'], stream, #raw, raw == own }");
    assert_eq!(returned.await, json!(["hello", "gzip", "hello", 25, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_may_take_longer_than_the_time_limit_of_whole_responses() {
    let mut http = HttpConfig::default();
    http.time_limit = Duration::from_millis(100);
    let source = "local last
         for event in http.events(... .. '/pause/300', { timeout = 60 }) do last = event.data end
         return last";
    let world = World::with(source, http, LuaConfig::default(), &json!({}));
    assert_eq!(world.call().await.unwrap(), "2");

    let (kind, message) =
        failed("for _ in http.events(base .. '/pause/60000', { timeout = 0.2 }) do end").await;
    assert!(kind == "deadline" && message.ends_with("was not done within 200ms"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_response_says_how_its_json_is_read() {
    let (kind, message) = failed("http.get(base .. '/hello', { stream = true }):json()").await;
    assert!(kind == "invalid" && message.contains("`json.decode(response.body:read_all())`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_a_loop_that_goes_on_where_it_broke_off_if_asked() {
    let returned = run("local base, seen = ..., {}
         for event in http.events(base .. '/events') do seen[#seen + 1] = event.event .. event.data end
         for event in http.events(base .. '/events', { reconnect = 1 }) do
             seen[#seen + 1] = event.id
             if event.id == '3' then break end
         end
         local events <close> = http.events(base .. '/events', { last_event_id = '1' })
         seen[#seen + 1] = events:next().data .. events:last_event_id()
         return seen");
    assert_eq!(returned.await, json!(["tick1", "1", "2", "3", "22"]));
    let (kind, message) = failed("for _ in http.events(base .. '/hello') do end").await;
    assert!(
        kind == "unavailable" && message.contains("`Content-Type` is not `text/event-stream`"),
        "{message}"
    );
    let (kind, message) = failed("for _ in http.events(base .. '/events', { max_event = 5 }) do end").await;
    assert!(kind == "exhausted" && message.ends_with("an event has more than 5 bytes"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_are_answered_in_their_order_and_a_failure_loses_no_other() {
    let world = World::new(
        "local base = ...
         local list = { base .. '/slow/30', { url = base .. '/break' }, { method = 'POST', url = base .. '/echo', body = 'x' },
                        { url = base .. '/status/404' }, base .. '/slow/1' }
         local out = {}
         for i, result in ipairs(http.all(list)) do
             out[i] = result.error and { result.error.kind, result.error.retryable } or { result.status, result.body }
         end
         return out",
    );
    let expected = json!([[200, "30"], ["unavailable", true], [200, "x"], [404, ""], [200, "1"]]);
    assert_eq!(world.call().await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_made_at_once_than_asked() {
    let source = |options: &str| {
        format!(
            "local list = {{}} for i = 1, 30 do list[i] = ... .. '/slow/20' end
             local results = http.all(list, {options})
             for _, result in ipairs(results) do assert(result.body == '20') end
             return #results"
        )
    };
    for (options, most) in [("nil", 8), ("{ concurrency = 2 }", 2)] {
        let world = World::new(&source(options));
        assert_eq!(world.call().await.unwrap(), 30);
        let seen = world.server.most.load(Ordering::SeqCst);
        assert!((2..=most).contains(&seen), "{seen}");
    }
    for (source, words) in [
        ("local l = {} for i = 1, 257 do l[i] = base end http.all(l)", "at most 256 requests; there are 257"),
        ("http.all({}, { concurrency = 17 })", "`concurrency` is an integer from 1 to 16; it is 17"),
        ("http.all({}, { concurrency = 0 })", "it is 0"),
        ("http.all { 7 }", "a list of requests or URLs; there is a number"),
        ("http.all { { url = base, stream = true } }", "leave out `stream`"),
        ("http.all { { uri = base } }", "did you mean `url`?"),
        ("http.all { base, nil, base }", "it has gaps"),
        ("http.all { url = base, base }", "something under another key"),
    ] {
        let (kind, message) = failed(source).await;
        assert!(kind == "invalid" && message.contains(words), "{source}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_share_the_memory_of_the_script() {
    let source = "local list = {} for i = 1, 10 do list[i] = ... .. '/bytes/1000000' end
         local whole, kinds = 0, {}
         for _, result in ipairs(http.all(list, { concurrency = 10 })) do
             if result.error then kinds[result.error.kind] = true else whole = whole + 1 end
         end
         return { whole < 8, kinds.exhausted }";
    let config = LuaConfig::default().with_memory(8 << 20);
    let world = World::with(source, HttpConfig::default(), config, &json!({}));
    match world.call().await {
        Ok(returned) => assert_eq!(returned, json!([true, true])),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_requests_send_is_within_the_memory_of_the_script() {
    let repeated = |request: &str| {
        format!(
            "local large, list = ('x'):rep(1000000), {{}}
             local url = base .. '/' .. large
             for i = 1, 40 do list[i] = {request} end
             http.all(list)"
        )
    };
    for request in [
        "{ method = 'POST', url = base .. '/echo', body = large }",
        "{ method = 'POST', url = base .. '/echo', form = { a = large } }",
        "{ method = 'POST', url = base .. '/echo', multipart = { a = large } }",
        "{ url = base .. '/hello', bearer = large }",
        "url",
    ] {
        let config = LuaConfig::default().with_memory(16 << 20);
        let world = World::with(&caught(&repeated(request)), HttpConfig::default(), config, &json!({}));
        let most = std::sync::Arc::clone(&world.server.most);
        let (kind, message) = failed_in(world).await;
        assert!(kind == "exhausted" && message.contains("memory"), "{request}: {message}");
        assert_eq!(most.load(Ordering::SeqCst), 0, "none is sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_end_with_their_call() {
    let world = World::new("local l = {} for i = 1, 8 do l[i] = ... .. '/stall' end http.all(l)");
    let ctx = world.functions.root().with_timeout(Duration::from_millis(300));
    let task = Task::new("app:script".parse().unwrap()).with_payload(json!(world.server.base()));
    assert_eq!(soon(ctx.call(task)).await.unwrap_err().kind(), ErrorKind::Deadline);
    world.server.closes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_sensitive_headers_are_few() {
    let (kind, message) = failed(
        "local large, names = ('x'):rep(1000000), {}
         for i = 1, 50 do names[i] = large end
         http.get(base .. '/hello', { headers = { a = 'b' }, sensitive = names })",
    )
    .await;
    assert!(kind == "invalid" && message.contains("`sensitive` have at most 65536 bytes"), "{message}");
}
