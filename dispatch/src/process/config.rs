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
}

impl Default for ManagerConfig {
    fn default() -> Self {
        Self { node: "local".to_owned(), exits: 4096, max_wait: Duration::from_secs(30) }
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
}
