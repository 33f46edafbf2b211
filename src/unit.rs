//! Whose connections are counted together: all calls of a function, all processes of an entry.

use frame_dispatch::FUNCTION;
use frame_dispatch::process::PROCESS;
use frame_net::Unit;
use frame_registry::Frame;

/// Returns the unit that a frame is of. Native code that is neither has no name, and shares one unit.
pub(crate) fn unit_of(frame: &Frame) -> Option<Unit> {
    let function = frame.get(&FUNCTION).map(|id| Unit::new("function", id.clone()));
    function.or_else(|| frame.get(&PROCESS).map(|id| Unit::new("process", id.clone())))
}
