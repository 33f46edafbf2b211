//! An app with units that try to use up what all share, beside an honest one.
//!
//! Each test runs in namespaces of its own, where a name server answers for one name only and is silent about all others;
//! servers are processes of their own, so that what they have open is not the app's. With `FRAME_LOAD_STRICT=1` there are
//! 1 000 hostile scripts, in two calls each. Once all of them hold what they can, the honest script is called for 20 seconds,
//! and the goal is asserted: 99 of 100 calls take less than 100 ms. Without it there are fewer, and every call of the honest
//! script succeeds, however long it takes. Shown are the times of its steps, and of a call that does nothing, which is how
//! long it waits for a thread of scripts.
//!
//! ```sh
//! FRAME_LOAD_STRICT=1 cargo test --release --no-default-features --test load -- --nocapture --test-threads 1
//! ```

#![cfg(target_os = "linux")]

mod hostile;
mod lookups;
#[path = "../../src/command/demo/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "../../net/tests/never_open/sealed.rs"]
#[allow(dead_code)]
mod sealed;
mod server;
#[path = "../shared/servers.rs"]
mod servers;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use frame_dispatch::{CallError, Payload, Task};
use frame_runtime::app::RunningApp;
use frame_runtime::manifest::{self, Manifest};
use serde_json::Value as Json;
use tempfile::TempDir;

/// Far more than anything takes here that is no matter of time.
const GENEROUS: Duration = Duration::from_mins(1);

/// An app in a directory of its own.
struct App {
    directory: TempDir,
    running: RunningApp,
}

/// What a function of an app is.
struct Function<'a> {
    name: &'a str,
    source: &'a str,
    /// Further lines of its section.
    settings: &'a str,
}

impl App {
    /// An app with these functions, whose manifest begins with `head`.
    async fn new(head: &str, functions: &[Function<'_>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        fs::write(directory.path().join("data/file"), "content").unwrap();
        let mut text = format!("{head}\n[fs]\nbase = \"data\"\n");
        for Function { name, source, settings } in functions {
            fs::write(directory.path().join(format!("{name}.lua")), source).unwrap();
            let engine = format!("engine = \"lua\"\nsource = \"{name}.lua\"");
            write!(text, "[functions.\"app:{name}\"]\n{engine}\n{settings}\n").unwrap();
        }
        fs::write(directory.path().join("app.toml"), text).unwrap();
        let manifest = read(&directory);
        let running = RunningApp::boot(manifest).await.unwrap_or_else(|problems| panic!("{problems}"));
        Self { directory, running }
    }

    async fn call(&self, name: &str, payload: Json, timeout: Duration) -> Result<Json, CallError> {
        let task = Task::new(format!("app:{name}").parse().unwrap()).with_payload(payload);
        match self.running.root().with_timeout(timeout).call(task).await? {
            Payload::Json(json) => Ok(json),
            other => panic!("{other:?} is not JSON"),
        }
    }

    /// Reads the manifest again, as `SIGHUP` does.
    async fn reload(&self) {
        let path = self.directory.path().join("app.toml");
        let manifest = tokio::task::spawn_blocking(move || manifest::read(&path)).await.unwrap();
        let manifest = manifest.unwrap_or_else(|problems| panic!("{problems}"));
        self.running.reload(manifest, GENEROUS).await.unwrap_or_else(|problems| panic!("{problems}"));
    }
}

fn read(directory: &TempDir) -> Manifest {
    manifest::read(&directory.path().join("app.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Runs a test as a run of the program would be: on several workers, with as many files as possible.
fn as_program(test: impl Future<Output = ()> + Send + 'static) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    // The harness is inside of a runtime of its own.
    let worker = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(test);
        runtime.shutdown_background();
    });
    worker.join().unwrap();
}
