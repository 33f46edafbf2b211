//! What an embedding crate adds.

use frame_dispatch::wasm::wasmtime::component::{Linker, Resource};
use frame_dispatch::wasm::wasmtime::{self, StoreContextMut};
use frame_dispatch::wasm::wasmtime_wasi::{FsPerms, WasiCtxBuilder};
use frame_dispatch::wasm::{GuestState, HostModule, WasmConfig, WasmEngine, WasmError};
use frame_dispatch::{CallContext, CallError, ErrorKind, Payload, Task};
use frame_registry::{Key, Options};
use serde_json::json;

use crate::common::{
    TENANT, TENANT_KEY, TestHost, Touched, add, assert_works, call, functions, id, run, runs,
};

/// A component that gives what `touch` gives the second time.
fn touches() -> Vec<u8> {
    frame_guests::component(&format!(
        r#"(import "frame:guests/host" "touch" (func $touch (result i32))) {}"#,
        run("(drop (call $touch))
             (i32.store8 (i32.const 64) (i32.add (call $touch) (i32.const 48)))
             (i32.store (i32.const 16) (i32.const 0))
             (i32.store (i32.const 20) (i32.const 0))
             (i32.store (i32.const 24) (i32.const 64))
             (i32.store (i32.const 28) (i32.const 1))
             (i32.const 16)")
    ))
}

#[tokio::test]
async fn a_module_keeps_something_for_each_call() {
    let functions = functions();
    add(&functions, "app:touches", &touches(), WasmConfig::default());
    for _ in 0..3 {
        assert_eq!(call(&functions, "app:touches", json!(1)).await.unwrap(), json!(2).into());
    }
}

#[tokio::test]
async fn a_module_that_panics_fails_the_call_and_no_other() {
    let functions = functions();
    let function = add(&functions, "app:touches", &touches(), WasmConfig::default());
    for _ in 0..3 {
        let options = Options::new().with(&TENANT, "clumsy".to_owned());
        let task = Task::new(id("app:touches")).with_options(options);
        let error = functions.root().call(task).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "call of `app:touches`: panicked: this host is clumsy");
        assert_eq!(call(&functions, "app:touches", json!(1)).await.unwrap(), json!(2).into());
    }
    assert_eq!(function.statistics().running, 0);
    assert_works(&functions).await;
}

/// A directory of the host, which the guest sees as `/data`.
static DIRECTORY: Key<String> = Key::new("directory");

/// Refuses the tenant `stranger`, and opens the directory of the frame.
struct Directories;

impl HostModule for Directories {
    fn link(&self, _: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn prepare(&self, state: &mut GuestState) -> Result<(), CallError> {
        match state.ctx().frame().get(&TENANT_KEY) {
            Some(tenant) if tenant == "stranger" => {
                Err(CallError::new(ErrorKind::Denied, "strangers have no directory"))
            }
            _ => Ok(()),
        }
    }

    fn wasi(&self, ctx: &CallContext, wasi: &mut WasiCtxBuilder) -> Result<(), CallError> {
        if let Some(directory) = ctx.frame().get(&DIRECTORY) {
            wasi.preopened_dir(directory, "/data", FsPerms::ReadOnly)
                .map_err(|error| CallError::new(ErrorKind::Unavailable, format!("{directory}: {error}")))?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_module_opens_directories_that_the_frame_of_the_call_names() {
    let engine = WasmEngine::builder().instances(4).module(Directories).build().unwrap();
    let functions = functions();
    let guest = engine.function(&frame_guests::guest("stdout"), WasmConfig::default()).unwrap();
    functions.register(id("app:stdout"), Options::new(), guest).unwrap();
    let root = functions.root();
    let task = || Task::new(id("app:stdout")).with_payload(json!(1));
    let directory = |path: &str| DIRECTORY.pair(path.to_owned());

    assert_eq!(root.call(task()).await.unwrap(), json!(0).into(), "no frame, no directory");
    let temporary = std::env::temp_dir();
    let given = task().with_pair(directory(temporary.to_str().unwrap()));
    assert_eq!(root.call(given).await.unwrap(), json!(1).into());
    assert_eq!(root.call(task()).await.unwrap(), json!(0).into(), "only for the call it was given for");

    let error = root.call(task().with_pair(directory("/there/is/none"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let stranger = task().with_options(Options::new().with(&TENANT, "stranger".to_owned()));
    let error = root.call(stranger).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Denied, "strangers have no directory"));
}

/// Puts its own way out in the place of WASI's standard output.
struct Replaces;

#[derive(Default)]
struct Written(Vec<u8>);

struct Out;

impl HostModule for Replaces {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        linker.instance("frame:guests/host")?.func_wrap(
            "touch",
            |mut store: StoreContextMut<'_, GuestState>, (): ()| {
                let (Written(written), table) = store.data_mut().slot_and_table();
                written.push(1);
                let resource: Resource<Out> = table.push(Out)?;
                table.delete(resource)?;
                Ok((u32::try_from(written.len())? + 5,))
            },
        )
    }
}

#[tokio::test]
async fn a_later_module_replaces_what_an_earlier_one_offers() {
    let engine = WasmEngine::builder().instances(4).module(TestHost).module(Replaces).build().unwrap();
    let functions = functions();
    let function = engine.function(&touches(), WasmConfig::default()).unwrap();
    functions.register(id("app:touches"), Options::new(), function).unwrap();
    assert_eq!(call(&functions, "app:touches", Payload::default()).await.unwrap(), json!(7).into());
}

/// Keeps 1 MiB for a moment the first time it is touched, and for ever the second time if its tenant is `hoarder`.
struct Hoards;

struct Hoard;

impl HostModule for Hoards {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        linker.instance("frame:guests/host")?.func_wrap(
            "touch",
            |mut store: StoreContextMut<'_, GuestState>, (): ()| {
                /// The resources are looked at only once in so many uses of a module.
                const USES: usize = 32;
                let state = store.data_mut();
                let Touched(count) = state.slot();
                *count += 1;
                let count = *count;
                let is_hoarder =
                    state.ctx().frame().get(&TENANT_KEY).is_some_and(|tenant| tenant == "hoarder");
                if count == 1 || is_hoarder {
                    let hoard = state.table().push(Hoard)?;
                    (0..USES).for_each(|_| state.weigh());
                    if !is_hoarder {
                        state.table().delete(hoard)?;
                        (0..USES).for_each(|_| state.weigh());
                    }
                }
                Ok((count,))
            },
        )
    }

    fn prepare(&self, state: &mut GuestState) -> Result<(), CallError> {
        state.weigh_with(|resource| if resource.is::<Hoard>() { 1 << 20 } else { 0 });
        Ok(())
    }
}

#[tokio::test]
async fn a_guest_that_returns_with_too_much_of_the_hosts_memory_is_exhausted() {
    let engine = WasmEngine::builder().instances(4).module(TestHost).module(Hoards).build().unwrap();
    let functions = functions();
    let call = async |name: &str, host_memory: usize, tenant: &str| {
        let limits = WasmConfig::default().with_host_memory(host_memory);
        let function = engine.function(&touches(), limits).unwrap();
        functions.register(id(name), Options::new(), function).unwrap();
        let options = Options::new().with(&TENANT, tenant.to_owned());
        functions.root().call(Task::new(id(name)).with_options(options)).await
    };
    // The guest returns at once, mostly within a tick of the clock.
    for (name, tenant) in [("app:drops", "frugal"), ("app:keeps", "hoarder")] {
        let error = call(name, 1 << 20, tenant).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
        assert!(error.message().contains("1048576 bytes of the limit `host_memory`"), "{error}");
    }
    assert_eq!(call("app:enough", 3 << 20, "hoarder").await.unwrap(), json!(2).into());
}

/// Offers something under a name that is no name.
struct Broken;

impl HostModule for Broken {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        linker.instance("frame:guests/host")?;
        wasmtime::bail!("there is nothing to link")
    }
}

#[test]
fn a_module_that_cannot_be_linked_builds_no_engine() {
    let error = WasmEngine::builder().instances(1).module(Broken).build().unwrap_err();
    assert_eq!(error, WasmError::Module { reason: "there is nothing to link".to_owned() });
    let without = WasmEngine::builder().instances(1).build().unwrap();
    let error = without.function(&touches(), WasmConfig::default()).unwrap_err();
    assert!(matches!(error, WasmError::Import { .. }));
    assert!(error.to_string().contains("`frame:guests/host`"), "{error}");
    without.function(&runs("unreachable"), WasmConfig::default()).unwrap();
}
