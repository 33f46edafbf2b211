use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

async fn increment(_: &CallContext, Json(n): Json<u64>) -> Result<Json<u64>, CallError> {
    Ok(Json(n + 1))
}

fn register(functions: &Functions) {
    functions.register("app:f".parse().unwrap(), Options::new(), increment).unwrap();
}

fn main() {}
