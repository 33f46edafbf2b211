use frame_registry::frame_resolver;

#[frame_resolver(order = 200)]
extern crate std as c;

fn main() {
    c::println!();
}
