//! Scripts as processes.

mod bounds;
mod ending;
mod messages;
mod reach;
mod relations;
mod starting;
mod surroundings;
mod world;
