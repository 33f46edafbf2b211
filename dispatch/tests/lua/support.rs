//! An app with one script in it.

use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaFunction};
use frame_dispatch::{CallContext, CallError, FunctionId, Functions, Payload, Task};
use frame_registry::{App, FrameResolvers, Options};
use serde_json::Value as Json;
use tokio::time::timeout;

/// Far more than anything takes here, on a machine that has better things to do.
pub(crate) const GENEROUS: Duration = Duration::from_mins(2);

pub(crate) fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

pub(crate) fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

/// A script that is registered as `app:script`.
pub(crate) struct Script {
    pub(crate) functions: Functions,
    pub(crate) function: LuaFunction,
}

impl Script {
    pub(crate) fn new(source: &str) -> Self {
        Self::with_config(source, LuaConfig::default())
    }

    pub(crate) fn with_config(source: &str, config: LuaConfig) -> Self {
        Self::with_engine(&LuaEngine::builder().build().unwrap(), source, config)
    }

    pub(crate) fn with_engine(engine: &LuaEngine, source: &str, config: LuaConfig) -> Self {
        let function = engine.function("script", source, config).unwrap();
        let functions = functions();
        functions.register(id("app:script"), Options::new(), function.clone()).unwrap();
        Self { functions, function }
    }

    pub(crate) async fn call(&self, payload: impl Into<Payload>) -> Result<Payload, CallError> {
        self.call_with(&self.functions.root(), payload).await
    }

    pub(crate) async fn call_with(
        &self,
        ctx: &CallContext,
        payload: impl Into<Payload>,
    ) -> Result<Payload, CallError> {
        let call = ctx.call(Task::new(id("app:script")).with_payload(payload));
        timeout(GENEROUS, call).await.expect("the call ends in time")
    }

    pub(crate) async fn json(&self, payload: impl Into<Payload>) -> Json {
        match self.call(payload).await.unwrap() {
            Payload::Json(json) => json,
            other => panic!("{other:?} is not JSON"),
        }
    }
}

/// What a script returns that is given `null`.
pub(crate) async fn returned(source: &str) -> Json {
    Script::new(source).json(Json::Null).await
}

/// What a script fails with that is given `null`.
pub(crate) async fn failed(source: &str) -> CallError {
    Script::new(source).call(Json::Null).await.expect_err(source)
}
