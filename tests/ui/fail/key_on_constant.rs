use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", stays)]
pub const TENANT: Key<String> = Key::new("tenant");

fn main() {}
