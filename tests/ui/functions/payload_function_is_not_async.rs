use frame_dispatch::{CallError, CallContext, Functions, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = |_: CallContext, payload: Payload| Ok::<_, CallError>(payload);
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
