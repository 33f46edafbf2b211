//! Files: the option `fs_root`, what scripts have of it, and what components have.

#[cfg(feature = "wasm")]
mod component;
mod escapes;
mod module;
mod narrowing;
mod option;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::{CallError, ErrorKind, FunctionId, Functions, Payload, Task};
use frame_registry::{App, FrameResolvers, Options};
use frame_runtime::fs_root::{FS_BASE, Root};
use frame_runtime::modules::lua::FsModule;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// Far more than anything takes here, on a machine that has better things to do.
const GENEROUS: Duration = Duration::from_mins(1);

/// What is in the one file outside.
const SECRET: &str = "xyzzy";

/// A base with a directory `room` in it, where there is `inside.txt`, and a directory with a secret beside the base.
struct World {
    directory: TempDir,
    functions: Functions,
    engine: LuaEngine,
    scripts: AtomicUsize,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        fs::create_dir_all(base.join("room")).unwrap();
        fs::write(base.join("room/inside.txt"), "inside").unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret.txt"), SECRET).unwrap();
        let base = Root::open(base).unwrap();
        Self::with(directory, Some(base), FsModule::new())
    }

    fn with(directory: TempDir, base: Option<Root>, module: FsModule) -> Self {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        if let Some(base) = base {
            app.set(&FS_BASE, base).unwrap();
        }
        let functions = Functions::new(app.build());
        let engine = LuaEngine::builder().module(module).build().unwrap();
        Self { directory, functions, engine, scripts: AtomicUsize::new(0) }
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.directory.path().join("outside").join(path)
    }

    fn room(&self, path: &str) -> PathBuf {
        self.directory.path().join("base/room").join(path)
    }

    /// Registers a script.
    fn script(&self, name: &str, source: &str, preset: &Json) {
        let function = self.engine.function(name, source, LuaConfig::default()).unwrap();
        self.functions.register(id(name), Options::from_json(preset).unwrap(), function).unwrap();
    }

    /// What a script returns that has `preset`.
    async fn run_with(&self, source: &str, preset: Json) -> Result<Json, CallError> {
        let name = format!("app:script-{}", self.scripts.fetch_add(1, Ordering::Relaxed));
        self.script(&name, source, &preset);
        self.call(&name).await
    }

    /// What a script returns whose root is the room.
    async fn run(&self, source: &str) -> Result<Json, CallError> {
        self.run_with(source, json!({ "fs_root": "room" })).await
    }

    async fn call(&self, name: &str) -> Result<Json, CallError> {
        let root = self.functions.root();
        let call = root.call(Task::new(id(name)));
        match timeout(GENEROUS, call).await.expect("the call ends in time")? {
            Payload::Json(json) => Ok(json),
            other => panic!("{other:?} is not JSON"),
        }
    }

    /// That a script is refused something, in words that name nothing of the machine.
    async fn refused(&self, source: &str, kind: ErrorKind) -> CallError {
        let error = self.run(source).await.expect_err(source);
        assert_eq!(error.kind(), kind, "{source}: {error}");
        self.assert_discreet(&error);
        error
    }

    fn assert_discreet(&self, error: &CallError) {
        let mut next: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            assert!(!text.contains(self.directory.path().to_str().unwrap()), "{text}");
            assert!(!text.contains(SECRET), "{text}");
            next = error.source();
        }
    }

    /// That outside nothing has changed.
    fn assert_outside_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(self.outside("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret.txt"]);
        assert_eq!(fs::read_to_string(self.outside("secret.txt")).unwrap(), SECRET);
    }
}

fn id(name: &str) -> FunctionId {
    name.parse().unwrap()
}
