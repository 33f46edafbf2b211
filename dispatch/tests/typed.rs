//! Functions and processes whose payloads are typed.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, ready};
use std::time::Duration;
use std::{fmt, io};

use frame_dispatch::process::{ExitReason, HostConfig, Message, ProcessContext, ProcessManager, Spawn};
use frame_dispatch::{
    BoxFuture, CallContext, CallError, ErrorKind, FromPayload, Function, FunctionId, Functions, IntoFunction,
    IntoPayload, Json, Payload, Task,
};
use frame_registry::{App, BoxError, Options};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize)]
struct Request {
    order: Order,
}

#[derive(Deserialize)]
struct Order {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    price: u64,
}

#[derive(Serialize)]
struct Response {
    total: u64,
}

/// An error of the function's own.
#[derive(Debug)]
struct TooDear(u64);

impl fmt::Display for TooDear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is too dear", self.0)
    }
}

impl Error for TooDear {}

async fn total(_: CallContext, Json(request): Json<Request>) -> Result<Json<Response>, TooDear> {
    let total = request.order.items.iter().map(|item| item.price).sum();
    if total > 100 { Err(TooDear(total)) } else { Ok(Json(Response { total })) }
}

fn id() -> FunctionId {
    "app:f".parse().unwrap()
}

/// Calls `function`, which is registered for this call alone.
async fn call<M>(
    function: impl IntoFunction<M, Function: Function>,
    payload: impl Into<Payload>,
) -> Result<Payload, CallError> {
    let functions = Functions::new(App::builder().build());
    functions.register(id(), Options::new(), function).unwrap();
    functions.root().call(Task::new(id()).with_payload(payload)).await
}

async fn refused<M>(
    function: impl IntoFunction<M, Function: Function>,
    payload: impl Into<Payload>,
) -> CallError {
    call(function, payload).await.unwrap_err()
}

fn order(prices: &[u64]) -> serde_json::Value {
    let items: Vec<_> = prices.iter().map(|price| json!({ "price": price })).collect();
    json!({ "order": { "items": items } })
}

#[tokio::test]
async fn an_async_fn_takes_and_returns_json() {
    assert_eq!(call(total, order(&[1, 2])).await.unwrap(), json!({ "total": 3 }).into());
}

#[tokio::test]
async fn a_closure_takes_and_returns_json() {
    let named = async |_: CallContext, Json(request): Json<Request>| -> Result<Json<Response>, TooDear> {
        Ok(Json(Response { total: request.order.items[0].price }))
    };
    assert_eq!(call(named, order(&[7])).await.unwrap(), json!({ "total": 7 }).into());
    let inferred = async |_: CallContext, Json(n): Json<u64>| Ok::<_, CallError>(Json(n + 1));
    assert_eq!(call(inferred, json!(1)).await.unwrap(), json!(2).into());
    let context_inferred = async |_, Json(n): Json<u64>| Ok::<_, CallError>(Json(n + 1));
    assert_eq!(call(context_inferred, json!(1)).await.unwrap(), json!(2).into());
}

#[tokio::test]
async fn a_closure_that_captures_and_returns_a_future_takes_json() {
    let step = String::from("2");
    let function = move |_: CallContext, Json(n): Json<u64>| {
        let step = step.clone();
        async move { Ok::<_, BoxError>(Json(n + step.parse::<u64>()?)) }
    };
    assert_eq!(call(function, json!(1)).await.unwrap(), json!(3).into());
}

#[tokio::test]
async fn a_function_that_cannot_fail_returns_no_result() {
    assert_eq!(
        call(async |_: CallContext, Json(n): Json<u64>| Json(n + 1), json!(1)).await.unwrap(),
        json!(2).into()
    );
    assert_eq!(call(async |_: CallContext, bytes: Vec<u8>| bytes, vec![1]).await.unwrap(), vec![1].into());
    assert_eq!(
        call(async |_: CallContext, Json(_): Json<u64>| (), json!(1)).await.unwrap(),
        Payload::default()
    );
}

#[tokio::test]
async fn a_function_of_its_context_alone_does_not_read_the_payload() {
    let json = async |ctx: CallContext| Json(ctx.is_cancelled());
    assert_eq!(call(json, vec![1]).await.unwrap(), json!(false).into());
    let nothing = async |_: CallContext| -> Result<(), io::Error> { Ok(()) };
    assert_eq!(call(nothing, json!([1])).await.unwrap(), Payload::default());
}

#[tokio::test]
async fn a_function_of_its_context_alone_returns_the_payload_of_another_with_any_error() {
    let functions = Functions::new(App::builder().build());
    let relay = async |ctx: CallContext| -> Result<Payload, BoxError> {
        let inner = String::from_utf8(b"app:inner".to_vec())?;
        Ok(ctx.call(Task::new(inner.parse()?)).await?)
    };
    functions.register("app:inner".parse().unwrap(), Options::new(), async |_: CallContext| Json(5)).unwrap();
    functions.register(id(), Options::new(), relay).unwrap();
    assert_eq!(functions.root().call(Task::new(id())).await.unwrap(), json!(5).into());
}

#[tokio::test]
async fn bytes_are_taken_and_returned_as_they_are() {
    let reverse = async |_: CallContext, mut bytes: Vec<u8>| -> Result<Vec<u8>, io::Error> {
        bytes.reverse();
        Ok(bytes)
    };
    assert_eq!(call(reverse, vec![1, 2]).await.unwrap(), vec![2, 1].into());
}

#[tokio::test]
async fn the_types_of_a_closure_from_payload_to_payload_are_inferred() {
    let json = json!([1]);
    let from_argument = async |_: CallContext, payload: Payload| Ok(payload);
    assert_eq!(call(from_argument, json.clone()).await.unwrap(), json.clone().into());
    let into = async |_: CallContext, _: Payload| Ok(json!(1).into());
    assert_eq!(call(into, json.clone()).await.unwrap(), json!(1).into());
    let from_output = async |_: CallContext, _| Ok(Payload::from(json!(2)));
    assert_eq!(call(from_output, json.clone()).await.unwrap(), json!(2).into());
    let failing = async |_: CallContext, payload: Payload| {
        payload.as_bytes().ok_or_else(|| CallError::invalid("not bytes"))?;
        Ok(payload)
    };
    assert_eq!(refused(failing, json).await.message(), "not bytes");
}

#[tokio::test]
async fn a_closure_from_payload_to_payload_parses_with_the_same_errors() {
    let function = async |_: CallContext, payload: Payload| {
        let Json(n) = Json::<u64>::from_payload(payload)?;
        Json(n + 1).into_payload()
    };
    assert_eq!(call(function, json!(1)).await.unwrap(), json!(2).into());
    assert_eq!(refused(function, json!("1")).await.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_invalid_with_the_path_to_the_mistake() {
    let payload = json!({ "order": { "items": [{ "price": 1 }, { "price": 2 }, { "price": "3" }] } });
    let error = refused(total, payload).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Invalid, false));
    assert_eq!(
        error.to_string(),
        "call of `app:f`: invalid payload at `order.items[2].price`: invalid type: string \"3\", expected u64"
    );
    let error = refused(total, json!({ "order": {} })).await;
    assert_eq!(error.message(), "invalid payload at `order`: missing field `items`");
}

#[tokio::test]
async fn a_mistake_in_the_payload_as_a_whole_has_no_path() {
    let error = refused(total, Payload::default()).await;
    assert_eq!(error.message(), "invalid payload: invalid type: null, expected struct Request");
}

#[tokio::test]
async fn the_message_about_an_invalid_payload_is_bounded() {
    let error = refused(total, json!({ "order": "long".repeat(100_000) })).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().len() < 5000);
}

#[tokio::test]
async fn bytes_for_json_and_json_for_bytes_are_invalid() {
    let error = refused(total, vec![1]).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.message(), "invalid payload: expected JSON, found bytes; pass it as JSON");
    let error = refused(async |_: CallContext, bytes: Vec<u8>| bytes, json!([1])).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.message(), "invalid payload: expected bytes, found JSON; pass it as bytes");
}

#[tokio::test]
async fn a_function_does_not_run_if_its_payload_is_invalid() {
    let function = |_: CallContext, Json(_): Json<u64>| -> std::future::Ready<()> { panic!("it runs") };
    assert_eq!(refused(function, json!("1")).await.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_response_that_is_not_json_is_internal_with_the_path_to_the_mistake() {
    #[derive(Serialize)]
    struct Shares {
        by_pair: BTreeMap<(u8, u8), u64>,
    }
    let function = async |_: CallContext| Json(Shares { by_pair: BTreeMap::from([((1, 2), 3)]) });
    let error = refused(function, Payload::default()).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, false));
    assert_eq!(error.message(), "the response is not valid JSON at `by_pair`: key must be a string");
}

#[tokio::test]
async fn an_error_of_the_functions_own_is_the_source_of_an_internal_one() {
    let error = refused(total, order(&[99, 2])).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, false));
    assert_eq!(error.function(), Some(&id()));
    assert_eq!(error.to_string(), "call of `app:f`: returned an error");
    let source = error.source().unwrap().downcast_ref::<TooDear>().unwrap();
    assert_eq!(source.0, 101);
}

#[tokio::test]
async fn the_question_mark_converts_errors_of_several_types() {
    async fn parse(_: CallContext, Json(text): Json<String>) -> Result<Json<u64>, BoxError> {
        let text = text.strip_prefix('#').ok_or_else(|| io::Error::other("no number sign"))?;
        Ok(Json(text.parse()?))
    }
    assert_eq!(call(parse, json!("#5")).await.unwrap(), json!(5).into());
    assert!(refused(parse, json!("5")).await.source().unwrap().is::<io::Error>());
    assert!(refused(parse, json!("#x")).await.source().unwrap().is::<std::num::ParseIntError>());
}

fn unavailable() -> CallError {
    let cause = io::Error::other("connection refused");
    CallError::new(ErrorKind::Unavailable, "the queue is not connected")
        .with_retry_after(Duration::from_secs(3))
        .with_source(cause)
}

fn assert_is_unavailable(error: &CallError) {
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.message(), "the queue is not connected");
    assert_eq!(error.source().unwrap().to_string(), "connection refused");
}

#[tokio::test]
async fn a_call_error_stays_as_it_is() {
    let function = async |_: CallContext, Json(_): Json<u64>| -> Result<(), CallError> { Err(unavailable()) };
    assert_is_unavailable(&refused(function, json!(1)).await);
}

#[tokio::test]
async fn a_call_error_in_a_box_stays_as_it_is() {
    let function = async |_: CallContext, Json(_): Json<u64>| -> Result<(), BoxError> { Err(unavailable())? };
    assert_is_unavailable(&refused(function, json!(1)).await);
    assert_is_unavailable(&CallError::from(BoxError::from(unavailable())));
}

#[tokio::test]
async fn types_of_ones_own_are_arguments_and_responses() {
    struct Text(String);

    impl FromPayload for Text {
        fn from_payload(payload: Payload) -> Result<Self, CallError> {
            let bytes = Vec::from_payload(payload)?;
            String::from_utf8(bytes).map(Self).map_err(|_| CallError::invalid("invalid payload: not UTF-8"))
        }
    }

    impl IntoPayload for Text {
        fn into_payload(self) -> Result<Payload, CallError> {
            self.0.into_bytes().into_payload()
        }
    }

    let function =
        async |_: CallContext, Text(text): Text| -> Result<Text, TooDear> { Ok(Text(text.to_uppercase())) };
    assert_eq!(call(function, b"abc".to_vec()).await.unwrap(), b"ABC".to_vec().into());
    assert_eq!(refused(function, vec![0xff]).await.message(), "invalid payload: not UTF-8");
}

#[tokio::test]
async fn a_type_that_implements_function_is_registered_as_it_is() {
    struct Echo;

    impl Function for Echo {
        fn call(&self, _: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
            Box::pin(ready(Ok(payload)))
        }
    }

    assert_eq!(call(Echo, json!(1)).await.unwrap(), json!(1).into());
    let converted = total.into_function();
    assert_eq!(call(converted, order(&[1])).await.unwrap(), json!({ "total": 1 }).into());
}

#[tokio::test]
async fn a_typed_function_replaces_another() {
    let functions = Functions::new(App::builder().build());
    functions.register(id(), Options::new(), async |_: CallContext, payload: Payload| Ok(payload)).unwrap();
    functions.replace(id(), Options::new(), total).unwrap().drained().await;
    let task = Task::new(id()).with_payload(order(&[4]));
    assert_eq!(functions.root().call(task).await.unwrap(), json!({ "total": 4 }).into());
}

#[tokio::test]
async fn a_panic_while_a_payload_is_parsed_is_an_internal_error() {
    struct Panics;

    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("on purpose")
        }
    }

    let error = refused(async |_: CallContext, Json(_): Json<Panics>| (), json!(1)).await;
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[test]
fn the_future_of_a_typed_function_is_no_larger_than_that_of_its_closure() {
    fn size<M, F: Future>(
        _: impl Fn(CallContext, Json<u64>) -> F + IntoFunction<M, Function: Function>,
    ) -> usize {
        size_of::<F>()
    }

    async fn large(ctx: CallContext, Json(n): Json<u64>) -> Result<Json<u64>, BoxError> {
        let room = [n; 100];
        ctx.call(Task::new("app:g".parse()?)).await?;
        Ok(Json(room.iter().sum()))
    }

    let functions = Functions::new(App::builder().build());
    let function = large.into_function();
    let run = function.call(functions.root(), json!(1).into());
    assert_eq!(size_of_val(&*run), size(large));
}

fn processes() -> ProcessManager {
    let processes = ProcessManager::new(Functions::new(App::builder().build()));
    processes.register_host("app:host".parse().unwrap(), HostConfig::default()).unwrap();
    processes
}

fn start(payload: serde_json::Value) -> Spawn {
    Spawn::new("app:host".parse().unwrap(), "app:p".parse().unwrap()).with_payload(payload)
}

#[tokio::test]
async fn a_process_takes_and_returns_json() {
    let processes = processes();
    let sum = async |mut ctx: ProcessContext, Json(mut sum): Json<u64>| -> Result<Json<u64>, BoxError> {
        while let Message::Sent { payload, .. } = ctx.receive().await {
            sum += Json::<u64>::from_payload(payload)?.0;
        }
        Ok(Json(sum))
    };
    processes.register("app:p".parse().unwrap(), Options::new(), sum).unwrap();
    let root = processes.functions().root();
    let pid = processes.spawn(&root, start(json!(1))).unwrap();
    processes.send(&root, pid, json!(2)).await.unwrap();
    let exit = processes.monitor(pid).unwrap();
    processes.cancel(pid, "done", Duration::from_mins(1)).unwrap();
    assert_eq!(exit.await.result.as_deref(), Some(&json!(3).into()));
}

#[tokio::test]
async fn a_process_of_its_context_alone_returns_nothing() {
    let processes = processes();
    processes.register("app:p".parse().unwrap(), Options::new(), async |_: ProcessContext| ()).unwrap();
    let root = processes.functions().root();
    assert_eq!(processes.exec(&root, start(json!(1))).await.unwrap(), Payload::default());
}

#[tokio::test]
async fn a_process_whose_payload_is_invalid_fails() {
    let processes = processes();
    processes.register("app:p".parse().unwrap(), Options::new(), async |_: ProcessContext| ()).unwrap();
    let typed = async |_: ProcessContext, Json(_): Json<u64>| ();
    processes.replace("app:p".parse().unwrap(), Options::new(), typed).unwrap();
    let pid = processes.spawn(&processes.functions().root(), start(json!("1"))).unwrap();
    let exit = processes.monitor(pid).unwrap().await;
    let ExitReason::Failed(error) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
