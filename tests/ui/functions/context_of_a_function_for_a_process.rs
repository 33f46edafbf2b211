use frame_dispatch::process::ProcessManager;
use frame_dispatch::{CallError, Ctx, Json};
use frame_registry::Options;

fn register(processes: &ProcessManager) {
    let process = async |_: Ctx, Json(n): Json<u64>| Ok::<_, CallError>(Json(n + 1));
    processes.register("app:p".parse().unwrap(), Options::new(), process).unwrap();
}

fn main() {}
