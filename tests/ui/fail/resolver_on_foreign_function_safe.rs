use frame_registry::frame_resolver;

unsafe extern "C" {
    #[frame_resolver(order = 200)]
    pub safe fn tenant();
}

fn main() {}
