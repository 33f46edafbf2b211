//! Spans as a collector gets them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Task};
use frame_registry::{App, FrameResolvers, Options};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use serde_json::{Value as Json, json};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::telemetry::traced;
use crate::trace::TRACE_KEY;

/// Far more than anything takes here.
const GENEROUS: Duration = Duration::from_mins(1);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A request, as a collector got it.
struct Got {
    head: String,
    request: ExportTraceServiceRequest,
}

/// A collector on loopback.
struct FakeCollector {
    endpoint: String,
    got: Receiver<Got>,
}

impl FakeCollector {
    /// One that answers everything with these lines, or first with others.
    fn answering(answers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, got) = mpsc::channel();
        let mut answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        answers.reverse();
        let answers = Arc::new(Mutex::new(answers));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, answers) = (sender.clone(), Arc::clone(&answers));
                thread::spawn(move || serve(&stream.unwrap(), &sender, &answers));
            }
        });
        Self { endpoint, got }
    }

    fn new() -> Self {
        Self::answering([OK])
    }

    fn otlp(&self) -> Otlp {
        Otlp { endpoint: self.endpoint.clone(), headers: BTreeMap::new() }
    }

    /// All that it got, once the exporter has been shut down.
    fn spans(&self) -> Vec<Span> {
        let requests = self.got.try_iter();
        let resources = requests.flat_map(|got| got.request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn serve(stream: &TcpStream, got: &Sender<Got>, answers: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        got.send(Got { head, request }).ok()?;
        let answer = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop() } else { answers.last().cloned() }
        };
        (&mut &*stream).write_all(answer?.as_bytes()).ok()?;
    }
}

fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

fn options(given: &Json) -> Options {
    Options::from_json(given).unwrap()
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, Json> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => json!(text),
        Value::IntValue(number) => json!(number),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.as_str(), value(attribute))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Does something while an exporter sees it, and sends all that is left.
fn exported<T>(otlp: &Otlp, run: impl AsyncFnOnce() -> T) -> T {
    let exporter = Exporter::new(otlp, "hello").unwrap();
    let subscriber = Registry::default().with(exporter.layer());
    let done = tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(GENEROUS, run()).await.unwrap() })
    });
    exporter.shutdown(GENEROUS);
    done
}

/// A native function that gives back the trace of its frame, or fails if it is told to.
async fn seen(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    if payload.as_json() == Some(&json!("fail")) {
        return Err(CallError::new(ErrorKind::Unavailable, "the queue is not connected"));
    }
    Ok(json!(ctx.frame().get(&TRACE_KEY)).into())
}

fn register_native(functions: &Functions) {
    let id = "app:native".parse().unwrap();
    let function = traced(&id, seen);
    functions.register(id, Options::new(), function).unwrap();
}

#[test]
fn a_call_inside_another_is_a_span_inside_its_span_with_the_ids_that_scripts_see() {
    let collector = FakeCollector::new();
    let mut otlp = collector.otlp();
    otlp.headers.insert("x-key".to_owned(), "xyzzy".to_owned());
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = exported(&otlp, async || {
        let functions = functions();
        register_native(&functions);
        let source = r#"return { outer = frame.get("trace"), inner = call("app:native", {}) }"#;
        let engine = LuaEngine::builder().build().unwrap();
        let script = engine.function("script", source, LuaConfig::default()).unwrap();
        let id = "app:script".parse().unwrap();
        let script = traced(&id, script);
        functions.register(id, Options::new(), script).unwrap();
        let given = options(&json!({ "trace": { "traceparent": caller, "tracestate": "rojo=1" } }));
        let task = Task::new("app:script".parse().unwrap()).with_options(given);
        functions.root().call(task).await.unwrap().as_json().unwrap().clone()
    });

    let got = collector.got.recv_timeout(GENEROUS).unwrap();
    assert!(got.head.starts_with("post /v1/traces http/1.1\r\n"), "{}", got.head);
    assert!(
        got.head.contains("\r\ncontent-type: application/x-protobuf\r\n")
            && got.head.contains("\r\nx-key: xyzzy\r\n")
    );
    let [resource] = &got.request.resource_spans[..] else { panic!("one resource") };
    let resource_attributes = attributes(&resource.resource.as_ref().unwrap().attributes);
    assert_eq!(resource_attributes["service.name"], "hello");
    let spans: Vec<_> = resource.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let [inner, outer] = spans[..] else { panic!("{spans:?}") };

    assert_eq!((inner.name.as_str(), outer.name.as_str()), ("app:native", "app:script"));
    for (span, seen) in [(inner, &answer["inner"]), (outer, &answer["outer"])] {
        let ids = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
        assert_eq!(seen, &json!({ "traceparent": ids, "tracestate": "rojo=1" }));
        assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.trace_state, "rojo=1");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Unset);
    }
    assert_eq!(hex(&outer.parent_span_id), "b7ad6b7169203331");
    assert_eq!(inner.parent_span_id, outer.span_id);
    // Bits 8 and 9 say whether the parent is of another program.
    assert_eq!((outer.flags >> 8 & 3, inner.flags >> 8 & 3), (3, 1));
    let outer = attributes(&outer.attributes);
    assert_eq!((&outer["frame.function"], &outer["frame.outcome"]), (&json!("app:script"), &json!("ok")));
    assert_eq!(outer["frame.attempt"], 1);
    assert!(outer["frame.pid"].as_str().unwrap().starts_with("{app:script|0x"));
}

#[test]
fn what_fails_is_told_with_the_kind_of_its_error() {
    let collector = FakeCollector::new();
    exported(&collector.otlp(), async || {
        let functions = functions();
        register_native(&functions);
        for (id, panics) in [("app:wait", false), ("app:panic", true)] {
            let function = move |_: CallContext, _: Payload| async move {
                assert!(!panics, "on purpose");
                std::future::pending().await
            };
            functions.register(id.parse().unwrap(), Options::new(), traced(&id, function)).unwrap();
        }
        let root = functions.root();
        let task = |id: &str| Task::new(id.parse().unwrap()).with_options(options(&json!({ "trace": true })));
        root.call(task("app:native").with_payload(json!("fail"))).await.unwrap_err();
        root.call(task("app:panic")).await.unwrap_err();
        let given = options(&json!({ "trace": true, "timeout": "5ms" }));
        root.call(task("app:wait").with_options(given)).await.unwrap_err();
        tokio::select! {
            biased;
            _ = root.call(task("app:wait")) => unreachable!(),
            () = std::future::ready(()) => (),
        }
    });
    let spans = collector.spans();
    let failures: Vec<_> = spans
        .iter()
        .map(|span| {
            let status = span.status.as_ref().unwrap();
            assert_eq!(status.code(), StatusCode::Error);
            let attributes = attributes(&span.attributes);
            assert_eq!(attributes["error.type"], attributes["frame.outcome"]);
            assert!(span.parent_span_id.is_empty(), "each began a trace");
            let kind = attributes["error.type"].as_str().unwrap().to_owned();
            (span.name.as_str(), kind, status.message.as_str())
        })
        .collect();
    let expected = [
        ("app:native", "unavailable", "the queue is not connected"),
        ("app:panic", "internal", "it panicked"),
        ("app:wait", "deadline", "not done by its deadline"),
        ("app:wait", "dropped", "nobody waited for it to end"),
    ];
    let expected = expected.map(|(unit, kind, message)| (unit, kind.to_owned(), message));
    assert_eq!(failures, expected);
}

#[test]
fn what_is_not_sampled_or_in_no_trace_is_not_told() {
    let collector = FakeCollector::new();
    let seen = exported(&collector.otlp(), async || {
        let functions = functions();
        register_native(&functions);
        let call = async |given: Json| {
            let task = Task::new("app:native".parse().unwrap()).with_options(options(&given));
            functions.root().call(task).await.unwrap().as_json().unwrap().clone()
        };
        let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        [call(json!({})).await, call(json!({ "trace": unsampled })).await]
    });
    assert_eq!(seen[0], json!(null));
    let passed_on = seen[1]["traceparent"].as_str().unwrap();
    assert!(passed_on.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && passed_on.ends_with("-00"));
    assert!(collector.spans().is_empty());
}

#[test]
fn a_process_is_a_span_and_what_it_calls_is_inside() {
    let collector = FakeCollector::new();
    exported(&collector.otlp(), async || {
        let functions = functions();
        register_native(&functions);
        let processes = ProcessManager::new(functions.clone());
        let host: frame_dispatch::process::HostId = "app:host".parse().unwrap();
        processes.register_host(host.clone(), HostConfig::default()).unwrap();
        let process =
            async |ctx: ProcessContext, _: Payload| ctx.ctx().call(Task::new("app:native".parse()?)).await;
        let entry: frame_dispatch::process::EntryId = "app:worker".parse().unwrap();
        processes.register(entry.clone(), Options::new(), traced(&entry, process)).unwrap();
        let start = Spawn::new(host, entry).with_options(options(&json!({ "trace": true })));
        processes.exec(&functions.root(), start).await.unwrap();
    });
    let spans = collector.spans();
    let [inner, process] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(inner.parent_span_id, process.span_id);
    assert_eq!((&inner.trace_id, &process.name), (&process.trace_id, &"app:worker".to_owned()));
    assert_eq!(attributes(&process.attributes)["frame.process"], "app:worker");
}

/// Calls go on where nobody listens, and where a collector never answers; the wait for it has an end.
#[test]
fn a_collector_that_is_down_or_silent_holds_up_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [format!("http://{nobody}"), silent_endpoint] {
        let exporter = Exporter::new(&Otlp { endpoint, headers: BTreeMap::new() }, "hello").unwrap();
        let subscriber = Registry::default().with(exporter.layer());
        tracing::subscriber::with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let functions = functions();
                register_native(&functions);
                let given = options(&json!({ "trace": true }));
                // More than the queue has room for.
                for _ in 0..2 * QUEUE {
                    let task = Task::new("app:native".parse().unwrap()).with_options(given.clone());
                    functions.root().call(task).await.unwrap();
                }
            });
        });
        exporter.shutdown(Duration::from_millis(50));
    }
}

#[test]
fn a_collector_that_redirects_leads_nowhere() {
    let other = FakeCollector::new();
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n",
        other.endpoint
    );
    let collector = FakeCollector::answering([redirect]);
    exported(&collector.otlp(), async || {
        let functions = functions();
        register_native(&functions);
        let task = Task::new("app:native".parse().unwrap()).with_options(options(&json!({ "trace": true })));
        functions.root().call(task).await.unwrap();
    });
    assert_eq!(collector.spans().len(), 1);
    assert!(other.got.try_recv().is_err());
}

#[test]
fn a_collector_that_wants_to_be_left_alone_gets_the_batch_later() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    let collector = FakeCollector::answering([busy, busy, OK]);
    exported(&collector.otlp(), async || {
        let functions = functions();
        register_native(&functions);
        let task = Task::new("app:native".parse().unwrap()).with_options(options(&json!({ "trace": true })));
        functions.root().call(task).await.unwrap();
    });
    let spans = collector.spans();
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span.span_id == spans[0].span_id));
}

#[test]
fn a_collector_that_has_a_name_may_be_at_any_address() {
    let collector = FakeCollector::new();
    let endpoint = collector.endpoint.replace("127.0.0.1", "localhost") + "/";
    exported(&Otlp { endpoint, headers: BTreeMap::new() }, async || {
        let functions = functions();
        register_native(&functions);
        let task = Task::new("app:native".parse().unwrap()).with_options(options(&json!({ "trace": true })));
        functions.root().call(task).await.unwrap();
    });
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn what_is_no_address_or_header_is_refused() {
    let refused = |endpoint: &str, header: &str| {
        let headers = [(header.to_owned(), "v".to_owned())].into();
        Exporter::new(&Otlp { endpoint: endpoint.to_owned(), headers }, "hello").unwrap_err().to_string()
    };
    for endpoint in
        ["", "127.0.0.1:4318", "ftp://127.0.0.1", "http://", "http://a:b@c:1", "http://c:1/?q", "/a"]
    {
        let error = refused(endpoint, "x-key");
        assert!(
            error.contains("is no address of a collector; write it as `http://127.0.0.1:4318`"),
            "{error}"
        );
    }
    assert_eq!(refused("http://127.0.0.1:4318", "host"), "the header `host` cannot be sent to the collector");
}
