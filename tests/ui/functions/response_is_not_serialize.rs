use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

struct Response {
    n: u64,
}

fn register(functions: &Functions) {
    let function = async |_: CallContext, Json(n): Json<u64>| Ok::<_, CallError>(Json(Response { n }));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
