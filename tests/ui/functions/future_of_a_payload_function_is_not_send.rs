use std::rc::Rc;

use frame_dispatch::{CallContext, Functions, Payload};
use frame_registry::Options;

fn register(functions: &Functions) {
    let function = async |_: CallContext, payload: Payload| {
        let shared = Rc::new(payload);
        std::future::ready(()).await;
        Ok(Payload::clone(&shared))
    };
    functions.register("app:f".parse().unwrap(), Options::new(), function).unwrap();
}

fn main() {}
