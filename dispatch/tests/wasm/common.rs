//! Functions with components in them, and a host module for the guests of the tests.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use frame_dispatch::wasm::wasmtime::component::Linker;
use frame_dispatch::wasm::wasmtime::{self, StoreContextMut};
use frame_dispatch::wasm::{GuestState, HostModule, WasmConfig, WasmEngine, WasmFunction};
use frame_dispatch::{CallError, FunctionId, Functions, Payload, Task};
use frame_registry::{
    App, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext, frame_option, frame_resolver,
};
use tokio::sync::Semaphore;

#[frame_option(name = "tenant")]
pub(crate) static TENANT: FrameOption<String>;

pub(crate) static TENANT_KEY: Key<String> = Key::new("tenant").inherit().public();
pub(crate) static SECRET: Key<String> = Key::new("secret").inherit();

/// What `wait` waits for, one permit a call; without it `wait` only lets other tasks run.
pub(crate) static GATE: Key<Arc<Semaphore>> = Key::new("gate").inherit();

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(tenant) if tenant == "nobody" => Err("nobody is no tenant".to_owned()),
        _ => Ok(options.pair(&TENANT, &TENANT_KEY)),
    }
}

/// How often this call has touched the host.
#[derive(Default)]
pub(crate) struct Touched(pub(crate) u32);

/// `frame:guests/host`.
pub(crate) struct TestHost;

impl HostModule for TestHost {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        let mut host = linker.instance("frame:guests/host")?;
        host.func_wrap("touch", |mut store: StoreContextMut<'_, GuestState>, (): ()| {
            let state = store.data_mut();
            assert!(
                state.ctx().frame().get(&TENANT_KEY).is_none_or(|tenant| tenant != "clumsy"),
                "this host is clumsy"
            );
            let Touched(count) = state.slot();
            *count += 1;
            Ok((*count,))
        })?;
        host.func_wrap_async("wait", |store: StoreContextMut<'_, GuestState>, (): ()| {
            let gate = store.data().ctx().frame().get(&GATE).cloned();
            Box::new(async move {
                match gate {
                    Some(gate) => gate.acquire().await?.forget(),
                    None => tokio::task::yield_now().await,
                }
                Ok(())
            })
        })
    }
}

/// One for all tests: address space is not endless.
pub(crate) fn engine() -> &'static WasmEngine {
    static ENGINE: LazyLock<WasmEngine> =
        LazyLock::new(|| WasmEngine::builder().module(TestHost).build().unwrap());
    &ENGINE
}

pub(crate) fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

pub(crate) fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

/// Registers the guest of this name, as `app:<name>`.
pub(crate) fn add_guest(functions: &Functions, name: &str) -> WasmFunction {
    add(functions, &format!("app:{name}"), &frame_guests::guest(name), WasmConfig::default())
}

pub(crate) fn add(functions: &Functions, name: &str, component: &[u8], config: WasmConfig) -> WasmFunction {
    let function = engine().function(component, config).unwrap();
    functions.register(id(name), Options::new(), function.clone()).unwrap();
    function
}

/// The function `run`, of this body.
pub(crate) fn run(body: &str) -> String {
    format!(
        r#"(func $run (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32) {body})"#
    )
}

/// A component whose `run` is of this body.
pub(crate) fn runs(body: &str) -> Vec<u8> {
    frame_guests::component(&run(body))
}

pub(crate) async fn call(
    functions: &Functions,
    name: &str,
    payload: impl Into<Payload>,
) -> Result<Payload, CallError> {
    functions.root().call(Task::new(id(name)).with_payload(payload)).await
}

/// What the guest `call` takes.
pub(crate) fn request(name: &str, options: &str, payload: &str) -> Payload {
    Payload::from(format!("{name}\n{options}\n{payload}").into_bytes())
}

/// That a call works as if nothing had been.
pub(crate) async fn assert_works(functions: &Functions) {
    if functions.options(&id("app:echo")).is_none() {
        add_guest(functions, "echo");
    }
    let payload = Payload::from(serde_json::json!({ "still": "there" }));
    assert_eq!(call(functions, "app:echo", payload.clone()).await.unwrap(), payload);
}

/// Longer than anything here takes on any machine.
pub(crate) const AGES: Duration = Duration::from_mins(2);
