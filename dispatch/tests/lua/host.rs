//! What scripts have of the host.

use frame_dispatch::{CallContext, CallError, ErrorKind, Payload};
use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};
use serde_json::json;

use crate::support::{Script, failed, id, returned};

#[frame_option(name = "tenant")]
pub(crate) static TENANT: FrameOption<String>;

static TENANT_KEY: Key<String> = Key::new("tenant").inherit().public();
static SECRET: Key<u32> = Key::new("secret").inherit();

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(tenant) if tenant == "nobody" => Err("nobody is no tenant".to_owned()),
        _ => Ok(options.pair(&TENANT, &TENANT_KEY)),
    }
}

fn with_echo(source: &str) -> Script {
    let script = Script::new(source);
    let echo = async |ctx: CallContext, payload: Payload| {
        let tenant = ctx.frame().get(&TENANT_KEY).cloned();
        Ok(Payload::from(json!({ "tenant": tenant, "payload": payload.as_json() })))
    };
    script.functions.register(id("app:echo"), Options::new(), echo).unwrap();
    script
}

#[tokio::test]
async fn a_script_is_given_the_payload_and_its_value_is_the_result() {
    let script = Script::new("local n = ... return n * 2");
    assert_eq!(script.json(json!(21)).await, 42);
    assert_eq!(script.json(json!(1.5)).await, 3.0);
    let statistics = script.function.statistics();
    assert_eq!((statistics.built, statistics.idle, statistics.running, statistics.discarded), (1, 1, 0, 0));
}

#[tokio::test]
async fn a_script_reads_what_is_public_of_its_own_frame() {
    let script =
        Script::new("return { frame.get('tenant'), frame.get('function'), frame.get('secret') == nil }");
    let call = |tenant: &str| {
        let task = frame_dispatch::Task::new(id("app:script"));
        let task = task.with_options(Options::new().with(&TENANT, tenant.to_owned()));
        let task = task.with_pair(SECRET.pair(1));
        let functions = script.functions.clone();
        async move { functions.root().call(task).await.unwrap() }
    };
    assert_eq!(call("one").await, json!(["one", "app:script", true]).into());
    assert_eq!(call("two").await, json!(["two", "app:script", true]).into());
    assert_eq!(script.function.statistics().built, 1, "both ran in one VM");
}

#[tokio::test]
async fn a_script_calls_a_function_whose_frame_inherits_from_its_own() {
    let script = with_echo("return call('app:echo', { ... })");
    let task = frame_dispatch::Task::new(id("app:script")).with_payload(json!(7));
    let task = task.with_options(Options::new().with(&TENANT, "outer".to_owned()));
    let result = script.functions.root().call(task).await.unwrap();
    assert_eq!(result, json!({ "tenant": "outer", "payload": [7] }).into());
}

#[tokio::test]
async fn a_script_sets_options_by_their_declared_names() {
    let script = with_echo("return call('app:echo', null, { tenant = 'inner' }).tenant");
    assert_eq!(script.json(json!(null)).await, "inner");

    let script = with_echo("return call('app:echo', null, { tennant = 'inner' })");
    let error = script.call(json!(null)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("did you mean `tenant`?"), "{error}");
}

#[tokio::test]
async fn options_are_small() {
    let script = with_echo("return call('app:echo', null, { [('x'):rep(1000000)] = 1 })");
    let error = script.call(json!(null)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.message(), "the options are larger than 65536 bytes: give data as the payload");
}

#[tokio::test]
async fn a_call_whose_frame_is_refused_is_denied() {
    let script = with_echo("return select(2, pcall(call, 'app:echo', null, { tenant = 'nobody' })).kind");
    assert_eq!(script.json(json!(null)).await, "denied");
}

#[tokio::test]
async fn a_failed_call_is_a_value_with_fields() {
    let script = Script::new(
        "local ok, e = pcall(call, 'app:busy')
         return { ok, type(e), e.kind, e.message, e.retryable, e['function'], tostring(e) }",
    );
    let busy =
        async |_: CallContext, _: Payload| Err(CallError::new(ErrorKind::Unavailable, "busy just now"));
    script.functions.register(id("app:busy"), Options::new(), busy).unwrap();
    let expected = json!([
        false,
        "table",
        "unavailable",
        "busy just now",
        true,
        "app:busy",
        "call of `app:busy`: busy just now"
    ]);
    assert_eq!(script.json(json!(null)).await, expected);
}

#[tokio::test]
async fn a_failed_call_that_is_not_caught_keeps_its_kind_and_is_the_source() {
    for source in ["call('app:busy')", "local ok, e = pcall(call, 'app:busy') error(e)"] {
        let script = Script::new(source);
        let busy = async |_: CallContext, _: Payload| {
            Err(CallError::new(ErrorKind::Exhausted, "enough").with_retryable(false))
        };
        script.functions.register(id("app:busy"), Options::new(), busy).unwrap();
        let error = script.call(json!(null)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false));
        assert_eq!(error.function(), Some(&id("app:script")));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "call of `app:busy`: enough");
    }
}

#[tokio::test]
async fn what_is_no_call_is_refused_in_words() {
    let error = failed("call(1)").await;
    assert!(error.message().contains("the id of a function is a string"), "{error}");
    let error = failed("call('nonsense id')").await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = failed("call('app:missing')").await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_call_works_in_a_coroutine_as_outside() {
    let script = with_echo(
        "local inner = coroutine.wrap(function()
           coroutine.yield(call('app:echo', 1).payload)
           local deeper = coroutine.wrap(function() return call('app:echo', 2).payload end)
           coroutine.yield(deeper())
           return 'done'
         end)
         return { inner(), inner(), inner() }",
    );
    assert_eq!(script.json(json!(null)).await, json!([1, 2, "done"]));
}

#[tokio::test]
async fn a_script_logs() {
    let source =
        "log.info('one', { n = 1 }) log.warn('two') print('three', 3, nil, {1}) warn('@on') warn('four', 4)";
    assert_eq!(returned(source).await, json!(null));
    let error = failed("log.info('one', { f = print })").await;
    assert!(error.message().contains("script:1: fields.f is a function"), "{error}");
}
