use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

struct Request {
    n: u64,
}

fn register(functions: &Functions) {
    let function = async |_: CallContext, Json(request): Json<Request>| Ok::<_, CallError>(Json(request.n));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
