//! `frame ps`.
