use frame_registry::frame_resolver;

pub struct Tenant(pub *const u8);

#[frame_resolver(order = 200)]
unsafe impl Send for Tenant {}

fn main() {
    fn is_send<T: Send>() {}
    is_send::<Tenant>();
}
