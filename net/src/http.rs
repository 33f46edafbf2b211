//! An HTTP client whose requests take the network of a frame.
