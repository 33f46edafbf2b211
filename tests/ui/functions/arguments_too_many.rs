use frame_dispatch::{CallError, Ctx, Functions, Json};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: Ctx, Json(a): Json<u64>, Json(b): Json<u64>| Ok::<_, CallError>(Json(a + b));
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
