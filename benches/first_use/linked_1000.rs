//! A thousand linked resolvers: what the program pays before `main`, and at the first use.

#[macro_use]
mod linked;

linked!(1000);
