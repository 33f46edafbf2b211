use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, Json(a): Json<u64>, Json(b): Json<u64>| Ok::<_, CallError>(Json(a + b));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
