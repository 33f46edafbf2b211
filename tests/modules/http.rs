//! `http` of scripts.
