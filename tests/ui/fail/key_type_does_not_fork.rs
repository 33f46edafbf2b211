use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", stays, inherit_forked)]
pub static TENANT: Key<String>;

fn main() {}
