//! `net` of scripts.
