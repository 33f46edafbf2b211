use frame_dispatch::process::ProcessManager;
use frame_dispatch::{CallError, CallContext, Json};
use frame_registry::Options;

fn register(processes: &ProcessManager) {
    let process = async |_: CallContext, Json(n): Json<u64>| Ok::<_, CallError>(Json(n + 1));
    processes.register("app:p".parse().unwrap(), Options::new(), process).unwrap();
}

fn main() {}
