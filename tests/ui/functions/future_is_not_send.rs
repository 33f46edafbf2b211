use std::rc::Rc;

use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

async fn increment(_: CallContext, Json(n): Json<u64>) -> Result<Json<u64>, CallError> {
    let shared = Rc::new(n);
    std::future::ready(()).await;
    Ok(Json(*shared + 1))
}

fn register(functions: &Functions) {
    functions.register("app:f".parse().unwrap(), Options::new(), increment).unwrap();
}

fn main() {}
