//! Processes: started, sent to, watched, linked and ended.

mod lifetime;
mod support;
