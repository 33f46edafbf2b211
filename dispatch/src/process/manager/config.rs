//! The limits of a process manager.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a [`ProcessManager`](crate::process::ProcessManager). In its serialised form durations are text such as `"30s"`.
///
/// ```
/// # use frame_dispatch::process::ManagerConfig;
/// let config = ManagerConfig::default().with_node("edge-7").with_exits(10_000);
/// assert_eq!((&*config.node, config.exits), ("edge-7", 10_000));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ManagerConfig {
    /// The name of this node in PIDs. Default: `local`.
    pub node: String,
    /// How many exits are remembered, for callers that ask about a process that has ended. Default: 4 096.
    pub exits: usize,
    /// The longest time that a sender waits for room in a mailbox. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// How long a [call](crate::process::ProcessManager::call) waits for its reply, unless it sets another time. Default: 5 seconds.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// The most calls of one process that wait for their replies, those of functions that it called included. Default: 1 024.
    pub calls: u32,
    /// The most monitors of one process. Monitors that are set up by a spawn are limited by the hosts alone. Default: 65 536.
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
    /// Sets [`node`](Self::node).
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>) -> Self {
        self.node = node.into();
        self
    }

    /// Sets [`exits`](Self::exits).
    #[must_use]
    pub const fn with_exits(mut self, exits: usize) -> Self {
        self.exits = exits;
        self
    }

    /// Sets [`max_wait`](Self::max_wait).
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let config = ManagerConfig::default().with_node("edge-7").with_max_wait(Duration::from_millis(1_500));
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["max_wait"], json!("1s 500ms"));
        assert_eq!(serde_json::from_value::<ManagerConfig>(written).unwrap(), config);
    }

    #[test]
    fn what_is_left_out_has_its_default_and_an_unknown_member_is_an_error() {
        let read: ManagerConfig = serde_json::from_value(json!({ "call_timeout": "2s" })).unwrap();
        assert_eq!(read, ManagerConfig::default().with_call_timeout(Duration::from_secs(2)));
        let error = serde_json::from_value::<ManagerConfig>(json!({ "timeout": "2s" })).unwrap_err();
        assert!(error.to_string().contains("unknown field `timeout`"), "{error}");
    }
}
