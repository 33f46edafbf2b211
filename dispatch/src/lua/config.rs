//! The limits of a function in Lua.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pool::PoolConfig;

/// How a function in Lua runs, and its limits. In text, durations have units: `"30s"`.
///
/// ```
/// # use std::time::Duration;
/// # use frame_dispatch::lua::LuaConfig;
/// let config = LuaConfig::default().with_memory(8 << 20).with_time(Duration::from_secs(2));
/// assert_eq!((config.memory, config.time.as_secs()), (8 << 20, 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LuaConfig {
    /// How many calls run at once, and how many VMs wait for them.
    pub pool: PoolConfig,
    /// How much memory a VM has, in bytes. Default: 32 MiB.
    pub memory: usize,
    /// How long a call, or a process, runs at most, once it has its turn. [`Duration::MAX`] is no limit. Default: 30 seconds,
    /// after which a process fails; see [`LuaConfig::process`].
    #[serde(with = "humantime_serde")]
    pub time: Duration,
    /// How large a result is at most, and what a script gives to a function that it calls, a process that it starts or
    /// one that it sends a message to: in bytes, as JSON. Default: 16 MiB.
    pub payload: usize,
    /// Whether every call has a new VM, which takes longer. Default: no. Either way a call sees nothing of another.
    pub fresh_vm: bool,
}

impl Default for LuaConfig {
    fn default() -> Self {
        Self {
            pool: PoolConfig::default(),
            memory: 32 << 20,
            time: Duration::from_secs(30),
            payload: 16 << 20,
            fresh_vm: false,
        }
    }
}

impl LuaConfig {
    /// What suits a script that is started as a process: no limit of [`time`](Self::time), and as many at once as their
    /// hosts [have room](crate::process::HostConfig::processes) for.
    ///
    /// Everything else is as it is by default, the [`memory`](Self::memory) of each process above all.
    ///
    /// ```
    /// # use frame_dispatch::lua::LuaConfig;
    /// let config = LuaConfig::process().with_memory(4 << 20);
    /// assert_eq!((config.time, config.pool.size), (std::time::Duration::MAX, usize::MAX));
    /// ```
    #[must_use]
    pub fn process() -> Self {
        let config = Self::default();
        config.with_time(Duration::MAX).with_pool(PoolConfig::default().with_size(usize::MAX))
    }

    /// Sets [`pool`](Self::pool).
    #[must_use]
    pub const fn with_pool(mut self, pool: PoolConfig) -> Self {
        self.pool = pool;
        self
    }

    /// Sets [`memory`](Self::memory).
    #[must_use]
    pub const fn with_memory(mut self, memory: usize) -> Self {
        self.memory = memory;
        self
    }

    /// Sets [`time`](Self::time).
    #[must_use]
    pub const fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets [`payload`](Self::payload).
    #[must_use]
    pub const fn with_payload(mut self, payload: usize) -> Self {
        self.payload = payload;
        self
    }

    /// Sets [`fresh_vm`](Self::fresh_vm).
    #[must_use]
    pub const fn with_fresh_vm(mut self, fresh_vm: bool) -> Self {
        self.fresh_vm = fresh_vm;
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        for config in [LuaConfig::default(), LuaConfig::process(), LuaConfig::default().with_fresh_vm(true)] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<LuaConfig>(&text).unwrap(), config, "{text}");
        }
        let text = json!({ "time": "2s", "pool": { "size": 3, "max_wait": "1m" } });
        let config: LuaConfig = serde_json::from_value(text).unwrap();
        assert_eq!((config.time.as_secs(), config.pool.size, config.pool.max_wait.as_secs()), (2, 3, 60));
        assert!(serde_json::from_value::<LuaConfig>(json!({ "tiem": "2s" })).is_err());
    }
}
