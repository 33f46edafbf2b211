//! Completions and the manual page.
