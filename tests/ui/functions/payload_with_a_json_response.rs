use frame_dispatch::{CallError, CallContext, Functions, Json, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, _: Payload| Ok::<_, CallError>(Json(1));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
