use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", stays)]
#[frame_key(name = "customer", stays)]
pub static TENANT: Key<String>;

fn main() {}
