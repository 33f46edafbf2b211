//! Logs, and the spans that a collector gets.

use std::process::Output;

use serde_json::Value;

use super::{App, command, frame, stderr};

/// A function that logs, and one that calls it.
fn logging() -> App {
    App::of_scripts(&[
        ("inner", "log.info('inside'); return frame.get('trace')"),
        (
            "outer",
            "log.warn('two\\nlines\\27[31m'); return { outer = frame.get('trace'), inner = call('app:inner') }",
        ),
    ])
}

#[test]
fn logs_for_programs_are_an_object_a_line() {
    let app = logging();
    let output = frame(&["call", &app.manifest, "app:outer", "--log", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let messages: Vec<_> = lines.iter().map(|line| (&line["level"], &line["message"])).collect();
    for (level, message) in [("WARN", "two\\nlines\\u{1b}[31m"), ("INFO", "inside")] {
        assert!(messages.contains(&(&level.into(), &message.into())), "{said}");
    }
    assert!(
        lines.iter().all(|line| line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z'))),
        "{said}"
    );
}

#[test]
fn fields_of_a_script_are_members_for_programs_and_text_that_cannot_reorder_for_people() {
    let script = "log.info('a\\u{202e}b', { ticks = 1, ['\\u{2066}'] = { '\\u{202e}', 2 } })";
    let app = App::of_scripts(&[("fields", script)]);
    let output = frame(&["call", &app.manifest, "app:fields", "--log", "json"]);
    let said = stderr(&output);
    let line: Value = said
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .find(|line: &Value| line["fields"].is_object())
        .expect(&said);
    assert_eq!(line["fields"], serde_json::json!({ "ticks": 1, "\u{2066}": ["\u{202e}", 2] }));
    assert_eq!(line["message"], "a\\u{202e}b");
    let output = frame(&["call", &app.manifest, "app:fields"]);
    assert!(stderr(&output).contains(r#"fields={"ticks":1,"\u2066":["\u202e",2]}"#), "{}", stderr(&output));
    for said in [said, stderr(&output)] {
        assert!(!said.contains(['\u{202e}', '\u{2066}']), "{said:?}");
    }
}

#[test]
fn an_error_of_a_script_cannot_reorder_what_a_terminal_shows() {
    let app = App::of_scripts(&[("fails", "error('a\\u{202e}b')"), ("returns", "return '\\u{202e}'")]);
    for arguments in [
        &["app:fails"][..],
        &["app:fails", "--format", "json"],
        &["app:returns"],
        &["app:returns", "--format", "json"],
    ] {
        let output = frame(&[&["call", &app.manifest], arguments].concat());
        let shown = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("202e") && !shown.contains('\u{202e}'), "{arguments:?}: {shown:?}");
    }
}

fn with_filter(app: &App, variable: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = command(&[&["call", &app.manifest, "app:outer"], arguments].concat());
    if let Some(level) = variable {
        command.env("FRAME_LOG", level);
    }
    command.output().expect("it was built")
}

#[test]
fn a_level_that_is_none_is_refused_with_the_nearest() {
    let app = logging();
    let by_argument = with_filter(&app, None, &["--log-level", "inof"]);
    let by_variable = with_filter(&app, Some("inof"), &[]);
    for (output, origin) in [(by_argument, "--log-level"), (by_variable, "FRAME_LOG: ")] {
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]));
        let said = stderr(&output);
        let wrong = "`inof` is no level (did you mean `info`?)";
        assert!(said.contains(wrong) && said.contains(origin) && !said.contains("inside"), "{said}");
    }
}

#[test]
fn the_argument_counts_more_than_the_variable() {
    let app = logging();
    for (variable, arguments, shown) in [
        (None, &[][..], 2),
        (Some(""), &[], 2),
        (Some("warn"), &[], 1),
        (Some("warn"), &["--log-level", "info"], 2),
        (Some("inof"), &["--log-level", "off"], 0),
        (Some("info"), &["--log", "off"], 0),
    ] {
        let output = with_filter(&app, variable, arguments);
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        let seen = ["two", "inside"].iter().filter(|text| said.contains(**text)).count();
        assert_eq!(seen, shown, "{variable:?} {arguments:?}:\n{said}");
    }
}

#[test]
fn nothing_that_a_terminal_would_obey_is_written_elsewhere() {
    let app = logging();
    for arguments in [&[][..], &["--log", "json"], &["--explain"], &["--log-level", "trace"]] {
        let output = with_filter(&app, None, arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{}", stderr(&output));
    }
    for wrong in [&["call", &app.manifest, "app:missing"][..], &["check", "/nowhere"], &["frobnicate"]] {
        let output = frame(wrong);
        assert!(!output.status.success() && !output.stderr.contains(&0x1b), "{}", stderr(&output));
    }
}

/// Traces, as a collector gets them.
#[cfg(feature = "otlp")]
mod traces {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::fs;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message;
    use serde_json::Value;

    use super::super::{App, command, stderr};
    use super::logging;

    /// What is in the environment of somebody who sends other traces elsewhere, or none.
    const HOSTILE: [(&str, &str); 9] = [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-leak=1"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_SERVICE_NAME", "another"),
        ("OTEL_RESOURCE_ATTRIBUTES", "leaked=1"),
    ];

    struct Got {
        head: String,
        request: ExportTraceServiceRequest,
    }

    /// A collector on loopback, which takes everything.
    struct Collector {
        endpoint: String,
        got: Receiver<Got>,
    }

    impl Collector {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let endpoint = format!("http://{}", listener.local_addr().expect("it listens"));
            let (sender, got) = channel();
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let sender = sender.clone();
                    thread::spawn(move || take(&stream, &sender));
                }
            });
            Self { endpoint, got }
        }

        /// The manifest of `app`, with this collector.
        fn named_by(&self, app: &App, options: &str) {
            let manifest = fs::read_to_string(&app.manifest).expect("it was written");
            let manifest =
                manifest.replace("name = \"tried\"", &format!("name = \"tried\"\noptions = {{ {options} }}"));
            app.write("app.toml", manifest + &format!("[telemetry]\notlp = \"{}\"\n", self.endpoint));
        }

        /// All that came, once who sent it has ended.
        fn spans(&self) -> Vec<Span> {
            let resources = self.got.try_iter().flat_map(|got| got.request.resource_spans);
            resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
        }
    }

    fn take(stream: &TcpStream, got: &Sender<Got>) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).ok()? == 0 {
                    return None;
                }
            }
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            let mut body = vec![0; length.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            let request = ExportTraceServiceRequest::decode(&body[..]).ok()?;
            got.send(Got { head, request }).ok()?;
            (&mut &*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        }
    }

    /// The header `traceparent` of a span.
    fn traceparent(span: &Span) -> String {
        format!("00-{}-{}-{:02x}", hex(&span.trace_id), hex(&span.span_id), span.flags & 0xff)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("strings take all");
            hex
        })
    }

    #[test]
    fn a_call_sends_its_spans_before_it_ends_with_the_ids_that_scripts_see() {
        for environment in [&[][..], &HOSTILE] {
            let (app, collector) = (logging(), Collector::new());
            collector.named_by(&app, "");
            let mut call =
                command(&["call", &app.manifest, "app:outer", "-o", "trace=true", "--format", "json"]);
            let output = call.envs(environment.iter().copied()).output().expect("it was built");
            assert!(output.status.success(), "{}", stderr(&output));
            let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");

            let got = collector.got.try_recv().expect("it was sent before the program ended");
            assert!(
                got.head.starts_with("post /v1/traces http/1.1\r\n") && !got.head.contains("x-leak"),
                "{}",
                got.head
            );
            let resource = format!("{:?}", got.request.resource_spans[0].resource);
            assert!(resource.contains("tried") && !resource.contains("leaked"), "{resource}");
            let scopes = got.request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            let spans: Vec<_> = scopes.flat_map(|scope| scope.spans).collect();
            let [inner, outer] = &spans[..] else { panic!("{spans:?}") };
            assert_eq!(seen["outer"]["traceparent"], traceparent(outer));
            assert_eq!(seen["inner"]["traceparent"], traceparent(inner));
            assert_eq!((&inner.parent_span_id, &inner.trace_id), (&outer.span_id, &outer.trace_id));
            assert!(collector.got.try_recv().is_err(), "each is sent once");
        }
    }

    #[test]
    fn a_call_that_fails_sends_its_span_too() {
        let app = App::of_scripts(&[("broken", "error('it is broken')")]);
        let collector = Collector::new();
        collector.named_by(&app, "trace = true");
        let output = command(&["call", &app.manifest, "app:broken"]).output().expect("it was built");
        assert!(!output.status.success());
        let spans = collector.spans();
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert!(
            span.status.as_ref().is_some_and(|status| status.message.contains("it is broken")),
            "{span:?}"
        );
    }

    #[test]
    fn a_collector_that_is_not_there_fails_no_call_and_holds_it_up_for_seconds_only() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = format!("http://{}", silent.local_addr().expect("it listens"));
        for endpoint in ["http://127.0.0.1:9".to_owned(), silent] {
            let app = logging();
            Collector { endpoint, got: channel().1 }.named_by(&app, "trace = true");
            let begun = Instant::now();
            let output = command(&["call", &app.manifest, "app:inner"]).output().expect("it was built");
            assert!(output.status.success(), "{}", stderr(&output));
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        }
    }

    /// A process that calls `app:inner` three times, and waits.
    #[cfg(unix)]
    const CALLING: &str = r#"
        [hosts."app:workers"]
        [processes."app:calling"]
        engine = "lua"
        source = "calling.lua"
        [supervisors."app:main"]
        host = "app:workers"
        [[supervisors."app:main".children]]
        id = "calling"
        process = "app:calling"
    "#;

    #[cfg(unix)]
    #[test]
    fn a_run_sends_what_is_left_when_it_is_told_to_end() {
        use std::process::Stdio;

        use rustix::process::{Pid, Signal, kill_process};

        let (app, collector) = (logging(), Collector::new());
        app.write(
            "calling.lua",
            "log.info('self ' .. frame.get('trace').traceparent)
             for _ = 1, 3 do log.info('called ' .. call('app:inner').traceparent) end
             log.info('all were called')
             repeat local message = process.receive() until message.kind == 'cancelled'",
        );
        collector.named_by(&app, "trace = true");
        let manifest = fs::read_to_string(&app.manifest).expect("it was written");
        app.write("app.toml", manifest + CALLING);
        let mut run = command(&["run", &app.manifest, "--log", "json"]);
        run.envs(HOSTILE).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut run = run.spawn().expect("it was built");
        let mut lines = BufReader::new(run.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let mut said: Vec<Value> = Vec::new();
        for line in lines.by_ref() {
            let line: Value = serde_json::from_str(&line).expect(&line);
            let is_last = line["message"] == "all were called";
            said.push(line);
            if is_last {
                break;
            }
        }
        kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
        said.extend(lines.map(|line| serde_json::from_str::<Value>(&line).expect(&line)));
        assert!(run.wait().expect("it is our child").success(), "{said:?}");

        let spans = collector.spans();
        let sent: BTreeSet<_> = spans.iter().map(traceparent).collect();
        let messages = said.iter().filter_map(|line| line["message"].as_str());
        let seen: BTreeSet<_> = messages
            .filter_map(|message| message.strip_prefix("called ").or(message.strip_prefix("self ")))
            .map(ToOwned::to_owned)
            .collect();
        assert_eq!((sent.len(), spans.len()), (4, 4), "{spans:?}");
        assert_eq!(sent, seen);
        let traces: BTreeSet<_> = spans.iter().map(|span| hex(&span.trace_id)).collect();
        let process = spans.iter().find(|span| span.name == "app:calling").expect("it has a span");
        for call in spans.iter().filter(|span| span.name == "app:inner") {
            assert_eq!(call.parent_span_id, process.span_id);
        }
        assert_eq!(traces.len(), 1, "what a process calls is in its trace");
    }

    #[cfg(unix)]
    #[test]
    fn a_second_signal_ends_a_run_that_waits_for_its_collector() {
        use std::process::Stdio;

        use rustix::process::{Pid, Signal, kill_process};

        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", silent.local_addr().expect("it listens"));
        let app = logging();
        app.write("calling.lua", "call('app:inner'); log.info('it was called'); process.receive()");
        Collector { endpoint, got: channel().1 }.named_by(&app, "trace = true");
        let manifest = fs::read_to_string(&app.manifest).expect("it was written");
        app.write("app.toml", manifest + CALLING);
        let mut run = command(&["run", &app.manifest]);
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut run = run.spawn().expect("it was built");
        let mut lines = BufReader::new(run.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("it was called")));
        let told = Instant::now();
        kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
        assert!(lines.any(|line| line.contains("stopped: ")));
        // It listens again a moment later, and waits for seconds. So it is told until it has heard it.
        let status = loop {
            kill_process(Pid::from_child(&run), Signal::TERM).expect("it is our child");
            thread::sleep(Duration::from_millis(20));
            if let Some(status) = run.try_wait().expect("it is our child") {
                break status;
            }
        };
        assert_eq!(status.code(), Some(143), "after {:?}", told.elapsed());
    }

    #[test]
    fn by_default_each_call_is_a_trace_of_its_own() {
        let (app, collector) = (logging(), Collector::new());
        collector.named_by(&app, "trace = true");
        for _ in 0..2 {
            let output = command(&["call", &app.manifest, "app:outer"]).output().expect("it was built");
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let spans = collector.spans();
        assert_eq!(spans.len(), 4, "{spans:?}");
        let begun: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
        let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
        assert_eq!((begun.len(), traces.len()), (2, 2), "{spans:?}");
        assert!(begun.iter().all(|span| span.name == "app:outer"), "{spans:?}");
    }
}
