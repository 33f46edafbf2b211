use frame_dispatch::{CallError, CallContext, Functions, Json, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, Json(n): Json<u64>| Ok::<_, CallError>(Payload::from(vec![n as u8]));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
