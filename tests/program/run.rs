//! `frame run`.
