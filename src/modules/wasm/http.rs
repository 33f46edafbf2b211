//! `wasi:http`, through the network of the frame.
