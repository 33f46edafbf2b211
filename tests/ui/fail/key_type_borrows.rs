use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", propagates, inherit)]
pub static TENANT: Key<&'static str>;

fn main() {}
