use std::rc::Rc;

use frame_dispatch::{CallError, CallContext, Functions, Json};
use frame_registry::Options;

fn register(functions: &Functions, step: Rc<u64>) {
    let function = move |_: CallContext, Json(n): Json<u64>| {
        let sum = n + *step;
        async move { Ok::<_, CallError>(Json(sum)) }
    };
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
