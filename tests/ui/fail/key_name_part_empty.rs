use frame_registry::{Key, frame_key};

#[frame_key(name = "net.", stays)]
pub static TENANT: Key<String>;

fn main() {}
