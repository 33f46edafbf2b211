//! The option `fs_root`: the directory that a unit sees.
