use frame_registry::{Key, frame_key};
use std::rc::Rc;

#[frame_key(name = "tenant", propagates, inherit, secret)]
pub static TENANT: Key<Rc<u32>>;

fn main() {}
