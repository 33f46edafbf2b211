//! No linked resolver: what the program pays before `main`, and at the first use.

#[macro_use]
mod linked;

linked!(0);
