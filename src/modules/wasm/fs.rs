//! Directories of WASI, from the directory of the frame.
