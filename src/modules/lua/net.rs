//! Connections, through the network of the frame.
