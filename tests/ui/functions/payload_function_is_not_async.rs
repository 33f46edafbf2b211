use frame_dispatch::{CallError, Ctx, Functions, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = |_: Ctx, payload: Payload| Ok::<_, CallError>(payload);
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
