//! The options that this program has beside those of its parts: a file each.

pub mod fs_root;
pub mod spawn;
pub mod trace;
