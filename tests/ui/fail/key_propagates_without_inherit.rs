use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", propagates)]
pub static TENANT: Key<String>;

fn main() {}
