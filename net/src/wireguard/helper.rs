//! What a program does so that its networks can use the kernel's TCP and UDP.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Lets WireGuard networks of this program use the kernel's TCP and UDP, on Linux. Call it first in `main`, before any
/// thread is started and before arguments are read. `#[tokio::main]` starts threads before the body of `main`: build the
/// runtime after this call instead.
///
/// The kernel's stack needs a network namespace of its own, and a process that owns it. That process is this program
/// again: a network starts `/proc/self/exe` with another name, and there this function does not return. In any other
/// process it only notes that the program can be started so.
///
/// Without this call, and on other systems, networks use a stack in user space; see
/// [`WireGuard::stack`](crate::wireguard::WireGuard::stack).
///
/// ```no_run
/// fn main() -> std::io::Result<()> {
///     frame_net::wireguard::helper::init();
///     let runtime = tokio::runtime::Runtime::new()?;
///     runtime.block_on(async { /* the rest of the program */ });
///     Ok(())
/// }
/// ```
pub fn init() {
    #[cfg(target_os = "linux")]
    {
        use crate::wireguard::kernel::helper;
        if std::env::args_os().next().is_some_and(|name| name == helper::NAME) {
            std::process::exit(i32::from(helper::run().is_err()));
        }
    }
    use_program("/proc/self/exe");
}

/// Makes networks start the program at `path` as their helper, for programs that cannot call [`init`] first, such as a
/// plugin or a test. The program at `path` has to call [`init`] first in its `main`.
///
/// The first call counts, be it of this function or of [`init`].
pub fn use_program(path: impl Into<PathBuf>) {
    PROGRAM.get_or_init(|| path.into());
}

/// The program to start, if one is known.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(super) fn program() -> Option<&'static Path> {
    PROGRAM.get().map(PathBuf::as_path)
}
