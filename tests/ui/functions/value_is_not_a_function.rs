use frame_dispatch::Functions;
use frame_registry::Options;

fn register(functions: &Functions) {
    functions.register("app:f".parse().unwrap(), Options::new(), "f").unwrap();
}

fn main() {}
