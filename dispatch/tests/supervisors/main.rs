//! Supervisors: who is started again, when, in which order, and how they end.
//!
//! The clock is paused in nearly all of this: time passes only where nothing else is to do.

mod backoff;
mod control;
mod dynamic;
mod ending;
mod frames;
mod hosts;
mod intensity;
mod model;
mod nesting;
mod quarantine;
mod restarts;
mod specs;
mod starter;
mod strategies;
mod stress;
mod support;
