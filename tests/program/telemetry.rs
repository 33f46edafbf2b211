//! Logs, progress and traces.
