//! What holds for functions whatever they are written in: one table of behaviours, three languages.

mod ends;
mod language;
mod own_chain;
mod registry;
mod retries;
mod soak;
mod surroundings;
