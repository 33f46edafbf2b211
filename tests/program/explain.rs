//! `frame call --explain`.
