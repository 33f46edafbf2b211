//! Functions to call, and interceptors made of closures.

use std::sync::{Arc, Mutex};

use frame_dispatch::{
    ATTEMPT, BoxFuture, CallContext, CallError, FunctionId, Functions, Interceptor, Next, PID, Payload, Task,
};
use frame_registry::{
    App, DeclaredOption, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext, frame_option,
    frame_resolver,
};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

/// An option that a resolver reads.
#[frame_option(name = "label")]
pub(crate) static LABEL: FrameOption<String>;
/// What it makes of it.
pub(crate) static LABELLED: Key<String> = Key::new("labelled");

/// An option that an interceptor may read.
#[frame_option(name = "extra", dispatcher)]
pub(crate) static EXTRA: FrameOption<u32>;

#[frame_resolver(order = 100, covers(LABEL))]
#[expect(clippy::unnecessary_wraps, reason = "a resolver gives a result")]
fn label(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    Ok(options.pair(&LABEL, &LABELLED))
}

pub(crate) type Outcome = Result<Payload, CallError>;

pub(crate) fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

pub(crate) fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

pub(crate) fn task(function: &str) -> Task {
    Task::new(id(function))
}

/// A task with options, as they are in text.
pub(crate) fn task_with(function: &str, options: &Json) -> Task {
    task(function).with_options(read(options))
}

pub(crate) fn read(options: &Json) -> Options {
    Options::from_json(options).unwrap()
}

pub(crate) fn json_of(payload: Payload) -> Json {
    match payload {
        Payload::Json(json) => json,
        other => panic!("{other:?} is not JSON"),
    }
}

/// What happened, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn push(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// An attempt, as the function that was called saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) attempt: u32,
    pub(crate) pid: u64,
    /// In milliseconds since the function was registered.
    pub(crate) at: u128,
}

/// The attempts at one function, and what each comes to.
#[derive(Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<Vec<Seen>>>);

impl Attempts {
    /// Registers a function that does what `outcome` says of the attempt, counted from 1 over all calls.
    pub(crate) fn register(
        functions: &Functions,
        function: &str,
        options: Options,
        outcome: impl Fn(usize) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let attempts = Self::default();
        let (seen, begun, outcome) = (attempts.clone(), Instant::now(), Arc::new(outcome));
        let function_of = move |ctx: CallContext, _: Payload| {
            let (seen, outcome) = (seen.clone(), outcome.clone());
            async move {
                let frame = ctx.frame();
                let number = {
                    let mut seen = seen.0.lock().unwrap();
                    seen.push(Seen {
                        attempt: *frame.get(&ATTEMPT).unwrap(),
                        pid: frame.get(&PID).unwrap().number(),
                        at: begun.elapsed().as_millis(),
                    });
                    seen.len()
                };
                outcome(number)
            }
        };
        functions.register(id(function), options, function_of).unwrap();
        attempts
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.seen().iter().map(|seen| seen.attempt).collect()
    }

    /// When each began, in milliseconds.
    pub(crate) fn times(&self) -> Vec<u128> {
        self.seen().iter().map(|seen| seen.at).collect()
    }
}

pub(crate) fn fine() -> Payload {
    Payload::from(json!("fine"))
}

/// Waits for as many milliseconds as its payload says.
pub(crate) async fn wait(_: CallContext, payload: Payload) -> Outcome {
    let millis = payload.as_json().and_then(Json::as_u64).unwrap_or(u64::MAX);
    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
    Ok(payload)
}

type Around = dyn for<'a> Fn(&'a CallContext, Task, Next<'a>) -> BoxFuture<'a, Outcome> + Send + Sync;

/// An interceptor made of a closure.
pub(crate) struct Wrap {
    name: &'static str,
    order: i32,
    options: Vec<&'static DeclaredOption>,
    around: Box<Around>,
}

impl Wrap {
    pub(crate) fn new(
        name: &'static str,
        order: i32,
        around: impl for<'a> Fn(&'a CallContext, Task, Next<'a>) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
    ) -> Self {
        Self { name, order, options: Vec::new(), around: Box::new(around) }
    }

    pub(crate) fn reading(mut self, option: &'static DeclaredOption) -> Self {
        self.options.push(option);
        self
    }

    /// One that writes down when it is come to, and when it is left.
    pub(crate) fn logging(name: &'static str, order: i32, log: &Log) -> Self {
        let log = log.clone();
        Self::new(name, order, move |ctx, task, next| {
            let log = log.clone();
            Box::pin(async move {
                log.push(format!("{name} begins"));
                let outcome = next.call(ctx, task).await;
                log.push(format!("{name} ends"));
                outcome
            })
        })
    }
}

impl Interceptor for Wrap {
    fn name(&self) -> &'static str {
        self.name
    }

    fn order(&self) -> i32 {
        self.order
    }

    fn options(&self) -> &[&'static DeclaredOption] {
        &self.options
    }

    fn intercept<'a>(&'a self, ctx: &'a CallContext, task: Task, next: Next<'a>) -> BoxFuture<'a, Outcome> {
        (self.around)(ctx, task, next)
    }
}

/// Polls a future once, to have it come to where it waits.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|waker| std::task::Poll::Ready(future.as_mut().poll(waker).is_ready())).await
}
