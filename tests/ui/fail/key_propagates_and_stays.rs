use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", inherit, propagates, stays)]
pub static TENANT: Key<String>;

fn main() {}
