use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, Json(n): Json<u64>| Ok::<_, CallError>(n + 1);
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
