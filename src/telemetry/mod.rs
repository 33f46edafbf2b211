//! What the program says of itself as it runs: logs, progress, traces.
