//! Functions that are WebAssembly components.
