use frame_registry::{Key, frame_key};

#[frame_key]
pub static TENANT: Key<String>;

fn main() {}
