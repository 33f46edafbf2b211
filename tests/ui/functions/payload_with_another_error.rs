use frame_dispatch::{Ctx, Functions, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: Ctx, payload: Payload| Ok::<_, std::io::Error>(payload);
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
