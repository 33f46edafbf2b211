use frame_registry::frame_resolver;

#[frame_resolver(order = 200)]
unsafe extern "C" {
    pub fn tenant();
}

fn main() {}
