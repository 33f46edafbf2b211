//! Scripts as processes.

mod bounds;
mod calls;
mod children;
mod ending;
mod grants;
mod groups;
mod messages;
mod owned;
mod reach;
mod relations;
mod starting;
mod surroundings;
mod timers;
mod world;
