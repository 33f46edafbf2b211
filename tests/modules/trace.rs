//! The option `trace`.
