//! `wasi:http` of components.

mod bodies;
mod ending;
mod failures;
mod guest;
mod origin;
mod requests;
