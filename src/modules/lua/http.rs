//! Requests over HTTP, through the network of the frame.
