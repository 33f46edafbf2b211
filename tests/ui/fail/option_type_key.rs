use frame_registry::{Key, frame_option};

#[frame_option(name = "tenant", plain)]
static TENANT: Key<String>;

fn main() {
    let _ = TENANT.name();
}
