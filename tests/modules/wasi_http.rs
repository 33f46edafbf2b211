//! `wasi:http` of components.
