//! WireGuard, in user space.
