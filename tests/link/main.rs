//! What only the linker can show: little Cargo projects, built as a user would build them.

mod artifacts;
mod covers;
mod dylib;
mod keys;
mod messages;
mod option_only;
mod order;
mod probe;
mod third_party;
mod wiring;
