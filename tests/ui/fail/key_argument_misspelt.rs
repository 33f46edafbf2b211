use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", inherit, propagate)]
pub static TENANT: Key<String>;

fn main() {}
