//! `wasi:http` of components.

mod bodies;
mod ending;
mod failures;
pub(crate) mod guest;
mod origin;
mod requests;
