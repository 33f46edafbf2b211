use frame_registry::{Key, frame_key};

#[derive(Debug)]
pub struct Tenant;

#[frame_key(name = "tenant", propagates, inherit)]
pub static TENANT: Key<Tenant>;

fn main() {}
