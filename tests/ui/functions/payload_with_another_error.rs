use frame_dispatch::{CallContext, Functions, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, payload: Payload| Ok::<_, std::io::Error>(payload);
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
