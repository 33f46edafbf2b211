use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", inherit)]
pub static TENANT: Key<String>;

fn main() {}
