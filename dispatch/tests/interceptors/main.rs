//! Interceptors from the outside: the chain, and each of those that are built in.

mod chain;
mod max_concurrent;
mod rate_limit;
mod retry;
mod support;
mod text;
mod timeout;
mod traced;
