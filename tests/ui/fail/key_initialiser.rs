use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", stays)]
pub static TENANT: Key<String> = Key::new("tenant").inherit();

fn main() {}
