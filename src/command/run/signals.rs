//! What the program is told by signals.

use std::fmt;
use std::io;

#[cfg(not(unix))]
pub(super) use self::other::{Reloads, Stops};
#[cfg(unix)]
pub(super) use self::unix::{Reloads, Stops};

/// The program is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGINT, which is Ctrl-C.
    Interrupt,
    /// SIGTERM.
    #[cfg(unix)]
    Terminate,
}

impl Stop {
    /// The exit code of a program that a signal ended, as shells give it: 128 and the signal's number.
    pub(super) const fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            #[cfg(unix)]
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            #[cfg(unix)]
            Self::Terminate => "SIGTERM",
        })
    }
}

#[cfg(unix)]
mod unix {
    use std::future::pending;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::{Stop, io};

    /// SIGHUP: from when it is listened for, it does not end the program. Several that nobody waits for are one.
    pub(in super::super) struct Reloads(Signal);

    impl Reloads {
        pub(in super::super) fn listen() -> io::Result<Self> {
            Ok(Self(signal(SignalKind::hangup())?))
        }

        /// # Cancel safety
        ///
        /// Cancel safe.
        pub(in super::super) async fn next(&mut self) {
            if self.0.recv().await.is_none() {
                pending::<()>().await;
            }
        }
    }

    /// SIGINT and SIGTERM: from when they are listened for, they do not end the program.
    pub(in super::super) struct Stops {
        interrupt: Signal,
        terminate: Signal,
    }

    impl Stops {
        pub(in super::super) fn listen() -> io::Result<Self> {
            let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
            Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
        }

        /// # Cancel safety
        ///
        /// Cancel safe.
        pub(in super::super) async fn next(&mut self) -> Stop {
            tokio::select! {
                Some(()) = self.interrupt.recv() => Stop::Interrupt,
                Some(()) = self.terminate.recv() => Stop::Terminate,
                else => pending().await,
            }
        }
    }
}

#[cfg(not(unix))]
mod other {
    use std::future::pending;

    use super::{Stop, io};

    /// There is no such signal here.
    pub(in super::super) struct Reloads;

    impl Reloads {
        #[allow(clippy::unnecessary_wraps)]
        pub(in super::super) fn listen() -> io::Result<Self> {
            Ok(Self)
        }

        pub(in super::super) async fn next(&mut self) {
            pending().await
        }
    }

    /// Ctrl-C.
    pub(in super::super) struct Stops;

    impl Stops {
        #[allow(clippy::unnecessary_wraps)]
        pub(in super::super) fn listen() -> io::Result<Self> {
            Ok(Self)
        }

        pub(in super::super) async fn next(&mut self) -> Stop {
            match tokio::signal::ctrl_c().await {
                Ok(()) => Stop::Interrupt,
                Err(_) => pending().await,
            }
        }
    }
}
