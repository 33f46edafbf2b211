use frame_registry::{Key, frame_key};

#[frame_key(name = "tenant", stays)]
pub static TENANT: Key<String>;

#[frame_key(name = "tenant", stays)]
pub static CUSTOMER: Key<u64>;

fn main() {}
