//! Scripts that do harm, beside honest ones.
//!
//! Each attack is a script that runs twice at once, next to an honest script and a timer. A test asserts how the attack
//! ends, and how much memory it takes; and bounds of time that hold on a machine with other things to do. With
//! `FRAME_HOSTILE_STRICT=1` the attacks are of full size, and the goals are asserted: an attack has left its thread 100 ms
//! after its deadline, or is quarantined, and 99 of 100 honest calls are delayed by 100 ms at most:
//!
//! ```sh
//! FRAME_HOSTILE_STRICT=1 cargo test --release -p frame-dispatch --test hostile -- --nocapture --test-threads 1
//! ```
//!
//! `FRAME_HOSTILE_ONLY` chooses attacks by a part of their names. `FRAME_HOSTILE_SOAK` is how many seconds the soak takes.

mod code;
mod control;
mod hashing;
mod host;
mod memory;
mod soak;
mod support;
mod text;
