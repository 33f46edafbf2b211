use frame_registry::{Key, frame_key, frame_option};

#[frame_option(name = "tenant", dispatcher)]
#[frame_key(name = "tenant", stays)]
pub static TENANT: Key<String>;

fn main() {
    let _ = TENANT.name();
}
