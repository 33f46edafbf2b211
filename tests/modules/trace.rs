//! The option `trace`.

use std::collections::HashSet;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::{CallContext, ErrorKind, Functions, Payload, Task};
use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, OptionError, Options, ResolveContext};
use frame_runtime::trace::{TRACE, TRACE_KEY, Trace, TraceContext};
use serde_json::{Value as Json, json};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn app() -> App {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.build()
}

fn options(given: &Json) -> Options {
    Options::from_json(&json!({ "trace": given })).unwrap()
}

/// A frame that is resolved as a dispatcher does it: a fork of its parent's.
fn resolved(parent: Option<&Frame>, options: &Options) -> Result<Frame, String> {
    let app = app();
    let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
    let resolved = app.resolvers().resolve(&ResolveContext::new(&app, parent), options, frame.pairs_mut());
    resolved.map_err(|error| std::error::Error::source(&error).unwrap().to_string())?;
    Ok(frame.seal())
}

fn trace(frame: &Frame) -> &TraceContext {
    frame.get(&TRACE_KEY).unwrap()
}

#[test]
fn true_starts_a_trace_where_there_is_none() {
    let frames = [(); 2].map(|()| resolved(None, &options(&json!(true))).unwrap());
    let [one, other] = frames.each_ref().map(trace);
    assert_ne!(one.trace_id(), other.trace_id());
    assert!(one.is_sampled() && one.parent_id().is_none());
    assert!(resolved(None, &options(&json!(false))).unwrap().get(&TRACE_KEY).is_none());
    assert!(resolved(None, &Options::new()).unwrap().get(&TRACE_KEY).is_none());
}

#[test]
fn each_frame_is_one_span_inside_that_of_its_parent() {
    let joined =
        resolved(None, &options(&json!({ "traceparent": CALLER, "tracestate": "rojo=1, congo=2" }))).unwrap();
    assert_eq!(trace(&joined).parent_id().unwrap().to_string(), "b7ad6b7169203331");
    assert!(trace(&joined).is_parent_remote());
    // Whether nothing is said of the trace, that there shall be one, that there need not be, or the same again.
    let given = [Options::new(), options(&json!(true)), options(&json!(false)), options(&json!(CALLER))];
    let mut spans = HashSet::from([trace(&joined).span_id()]);
    for given in given {
        let frame = resolved(Some(&joined), &given).unwrap();
        let child = trace(&frame);
        assert_eq!((child.trace_id(), child.flags()), (trace(&joined).trace_id(), 1));
        assert_eq!(child.parent_id(), Some(trace(&joined).span_id()));
        assert!(!child.is_parent_remote());
        assert_eq!(child.state().as_str(), "rojo=1,congo=2");
        assert_eq!(frame.iter().filter(|pair| pair.name() == "trace").count(), 1);
        assert!(spans.insert(child.span_id()));
    }
}

#[test]
fn the_program_can_name_another_trace_and_a_script_cannot() {
    let joined = resolved(None, &options(&json!(CALLER))).unwrap();
    let moved = resolved(Some(&joined), &options(&json!(OTHER))).unwrap();
    assert_eq!(trace(&moved).trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(!trace(&moved).is_sampled());

    let refused = resolved(Some(&joined), &options(&json!(OTHER)).untrusted()).unwrap_err();
    assert_eq!(
        refused,
        "the caller is part of another trace, which an option of its own does not leave; leave `trace` out"
    );
    // Where it is in none it can join one, or start one.
    let none = resolved(None, &Options::new()).unwrap();
    for given in [json!(OTHER), json!(true)] {
        let given = options(&given).untrusted();
        assert!(resolved(Some(&none), &given).unwrap().get(&TRACE_KEY).is_some());
    }
}

#[test]
fn a_script_without_a_trace_leaves_that_alone_which_is_preset_for_what_it_calls() {
    let nowhere = resolved(None, &Options::new()).unwrap();
    let joined = resolved(None, &options(&json!(CALLER))).unwrap();
    let same = json!(trace(&joined).traceparent());
    for preset in [json!(CALLER), json!(true)] {
        let with = |given: &Json| options(&preset).merged_under(&options(given).untrusted());
        for given in [json!(OTHER), json!(CALLER), json!(false)] {
            let refused = resolved(Some(&nowhere), &with(&given)).unwrap_err();
            assert!(refused.starts_with("a trace is preset for what was called"), "{given}: {refused}");
        }
        assert!(resolved(Some(&nowhere), &with(&json!(true))).is_ok());
        // A script that is in a trace does not leave it, whatever is preset.
        for given in [&same, &json!(true), &json!(false)] {
            let frame = resolved(Some(&joined), &with(given)).unwrap();
            assert_eq!(trace(&frame).trace_id(), trace(&joined).trace_id());
        }
    }
}

#[test]
fn what_a_frame_says_of_its_trace_can_be_given_as_the_option() {
    let frame = resolved(None, &options(&json!({ "traceparent": CALLER, "tracestate": "rojo=1" }))).unwrap();
    let public = frame.public("trace").unwrap().unwrap();
    assert_eq!(public, json!({ "traceparent": trace(&frame).traceparent(), "tracestate": "rojo=1" }));
    let Some(Trace::Join(read)) = options(&public).get(&TRACE).cloned() else { panic!("{public}") };
    assert_eq!((read.span_id(), read.state()), (trace(&frame).span_id(), trace(&frame).state()));
    let unsaid = resolved(None, &options(&json!(true))).unwrap().public("trace").unwrap().unwrap();
    assert_eq!(unsaid.as_object().unwrap().len(), 1, "no empty tracestate");
}

#[test]
fn what_is_no_trace_is_refused_with_what_is_wrong() {
    let cases = [
        (json!("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "not of lower-case hex digits"),
        (json!("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "the version `ff` is forbidden"),
        (json!("00-00000000000000000000000000000000-b7ad6b7169203331-01"), "the trace's id, is zero"),
        (json!(""), "does not begin with a version"),
        (json!(7), "expected true, false, a traceparent such as `00-"),
        (json!({ "tracestate": "rojo=1" }), "missing field `traceparent`"),
        (json!({ "traceparent": CALLER, "tracestat": "rojo=1" }), "unknown field `tracestat`"),
        (json!({ "traceparent": CALLER, "tracestate": "Rojo=1" }), "the key of member 1 is none"),
        (
            json!({ "traceparent": CALLER, "tracestate": "rojo=1,rojo=2" }),
            "the key of member 2 is there before",
        ),
    ];
    for (given, expected) in cases {
        let error = Options::from_json(&json!({ "trace": given })).unwrap_err();
        let OptionError::WrongType { option: "trace", source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains(expected), "{given}: {source}");
    }
}

#[tokio::test]
async fn scripts_see_their_trace_and_what_they_call_is_inside() {
    let functions = Functions::new(app());
    let native = async |ctx: CallContext, _: Payload| Ok(json!(ctx.frame().get(&TRACE_KEY)).into());
    functions.register("app:native".parse().unwrap(), Options::new(), native).unwrap();
    let source = r#"return { own = frame.get("trace"), nested = call("app:native", {}) }"#;
    let engine = LuaEngine::builder().build().unwrap();
    let script = engine.function("script", source, LuaConfig::default()).unwrap();
    functions.register("app:script".parse().unwrap(), Options::new(), script).unwrap();

    let task = || Task::new("app:script".parse().unwrap());
    let answer = functions.root().call(task().with_options(options(&json!(CALLER)))).await.unwrap();
    let answer = answer.as_json().unwrap();
    let parse = |json: &Json| TraceContext::parse(json["traceparent"].as_str().unwrap(), "").unwrap();
    let (own, nested) = (parse(&answer["own"]), parse(&answer["nested"]));
    assert_eq!(own.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(nested.trace_id(), own.trace_id());
    assert_ne!(nested.span_id(), own.span_id());

    let none = functions.root().call(task()).await.unwrap();
    assert!(none.as_json().unwrap().get("own").is_none(), "{none:?}");
}

#[tokio::test]
async fn a_frame_whose_trace_is_refused_does_not_start() {
    let functions = Functions::new(app());
    let outer = async |ctx: CallContext, _: Payload| {
        let task = Task::new("app:inner".parse()?).with_options(options(&json!(OTHER)).untrusted());
        ctx.call(task).await
    };
    functions.register("app:outer".parse().unwrap(), Options::new(), outer).unwrap();
    let inner = async |_: CallContext, _: Payload| unreachable!();
    functions.register("app:inner".parse().unwrap(), Options::new(), inner).unwrap();
    let task = Task::new("app:outer".parse().unwrap()).with_options(options(&json!(true)));
    let error = functions.root().call(task).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}
