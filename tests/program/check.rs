//! `frame check`.
