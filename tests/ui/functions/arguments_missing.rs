use frame_dispatch::{CallError, Functions, Json};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async || Ok::<_, CallError>(Json(1));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
