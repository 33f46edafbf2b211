//! What a manager of processes is like.

use std::time::Duration;

/// What a manager of processes is like.
///
/// ```
/// # use frame_dispatch::process::ManagerConfig;
/// let config = ManagerConfig::default().with_node("edge-7").with_exits(10_000);
/// assert_eq!((&*config.node, config.exits), ("edge-7", 10_000));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ManagerConfig {
    /// What this node is called in PIDs. Default: `local`.
    pub node: String,
    /// How many exits are remembered, for whoever asks about a process that has ended. Default: 4 096.
    pub exits: usize,
    /// How long a sender waits for room in a mailbox at most. Default: 30 seconds.
    pub max_wait: Duration,
    /// How long a [call](super::ProcessManager::call) waits for its reply, unless it sets another time. Default: 5 seconds.
    pub call_timeout: Duration,
    /// How many calls of one process wait for their replies at most. Calls of functions that it called count. Default:
    /// 1 024.
    pub calls: u32,
    /// How many monitors one process has at most. Default: 65 536. Those that a start sets up are limited by the hosts alone.
    pub monitors: usize,
}

impl Default for ManagerConfig {
    fn default() -> Self {
        Self {
            node: "local".to_owned(),
            exits: 4096,
            max_wait: Duration::from_secs(30),
            call_timeout: Duration::from_secs(5),
            calls: 1 << 10,
            monitors: 1 << 16,
        }
    }
}

impl ManagerConfig {
    /// The same, with another name of the [`node`](Self::node).
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>) -> Self {
        self.node = node.into();
        self
    }

    /// The same, with another number of [`exits`](Self::exits).
    #[must_use]
    pub const fn with_exits(mut self, exits: usize) -> Self {
        self.exits = exits;
        self
    }

    /// The same, with another [`max_wait`](Self::max_wait).
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Sets [`call_timeout`](Self::call_timeout).
    #[must_use]
    pub const fn with_call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// Sets [`calls`](Self::calls).
    #[must_use]
    pub const fn with_calls(mut self, calls: u32) -> Self {
        self.calls = calls;
        self
    }

    /// Sets [`monitors`](Self::monitors).
    #[must_use]
    pub const fn with_monitors(mut self, monitors: usize) -> Self {
        self.monitors = monitors;
        self
    }
}
