//! The helper process of WireGuard networks, for tests and benchmarks.

fn main() {
    frame_net::wireguard::helper::init();
    eprintln!("this program is started by tests");
}
