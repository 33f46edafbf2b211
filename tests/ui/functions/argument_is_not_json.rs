use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, n: u64| Ok::<_, CallError>(Json(n + 1));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
