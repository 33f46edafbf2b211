//! Functions in Lua 5.4.
