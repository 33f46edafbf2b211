//! Files, below the directory of the frame.
