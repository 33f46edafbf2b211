//! What a function or a process that is a component may use.

use std::time::Duration;

use crate::pool::PoolConfig;

/// The limits of a function, or of what is started as processes, each of which counts as one call here. All but `calls` and
/// `max_wait` are of one call, those that it makes in other functions not counted.
///
/// ```
/// use std::time::Duration;
///
/// use frame_dispatch::wasm::WasmConfig;
///
/// let config = WasmConfig::default().with_memory(16 << 20).with_time(Duration::from_secs(1));
/// assert_eq!((config.memory, config.calls), (16 << 20, 64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WasmConfig {
    /// How many calls run at once; at least one. Further calls wait for their turn, first come first served: until
    /// their deadline, and no longer than `max_wait`. A call would wait for itself if one of its callers is a call of the
    /// same function, so it is refused at once instead of waiting. Default: 64.
    pub calls: usize,
    /// How long a call waits for its turn at most, and then for one of the engine's instances. Default: 30 seconds.
    pub max_wait: Duration,
    /// How many bytes all of its linear memories have together. Default: 64 MiB.
    pub memory: usize,
    /// How many elements all of its tables have together. Default: 20 000.
    pub table_elements: usize,
    /// How long it runs, from when it has its turn; what it waits for, such as a call it makes, is counted. It narrows
    /// the deadline that the call has. Default: 30 seconds.
    pub time: Duration,
    /// How many bytes the guest hands to the host at once: its result, or all that it gives with one call of another
    /// function, and how large a message is that it receives. JSON counts as its text. Default: 16 MiB.
    pub payload: usize,
    /// How many bytes of memory JSON takes that the guest hands over, once it is read: its result, or the payload of one
    /// call of another function. Small numbers in an array take some 20 times their text, small objects 100 times.
    ///
    /// JSON is read in one go, so this also bounds how long it keeps other tasks of the thread from running: some 50
    /// milliseconds with the default. For that the text itself counts twice, and so does each member of an object after
    /// the first thousand. Default: 32 MiB.
    pub json_memory: usize,
    /// How many bytes of the host's memory the resources take that it has handles of: headers, bodies, streams, lists of
    /// directories, and what to wait for. A handle counts 256 bytes, and what is large in a resource counts as it is. A
    /// language that collects garbage may drop its handles late. Default: 64 MiB.
    pub host_memory: usize,
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self {
            calls: 64,
            max_wait: Duration::from_secs(30),
            memory: 64 << 20,
            table_elements: 20_000,
            time: Duration::from_secs(30),
            payload: 16 << 20,
            json_memory: 32 << 20,
            host_memory: 64 << 20,
        }
    }
}

impl WasmConfig {
    /// What suits a component that is started as a process: no limit of [`time`](Self::time), and as many at once as their
    /// hosts [have room](crate::process::HostConfig::processes) for. Each of them takes one of the engine's
    /// [instances](super::WasmEngineBuilder::instances) for as long as it lives.
    ///
    /// Everything else is as it is by default, the [`memory`](Self::memory) of each process above all.
    ///
    /// ```
    /// # use frame_dispatch::wasm::WasmConfig;
    /// let config = WasmConfig::process().with_memory(4 << 20);
    /// assert_eq!((config.time, config.calls), (std::time::Duration::MAX, usize::MAX));
    /// ```
    #[must_use]
    pub fn process() -> Self {
        Self::default().with_time(Duration::MAX).with_calls(usize::MAX)
    }

    /// The same, with another number of [`calls`](Self::calls).
    #[must_use]
    pub const fn with_calls(mut self, calls: usize) -> Self {
        self.calls = calls;
        self
    }

    /// The same, with another [`max_wait`](Self::max_wait).
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// The same, with another limit of [`memory`](Self::memory).
    #[must_use]
    pub const fn with_memory(mut self, memory: usize) -> Self {
        self.memory = memory;
        self
    }

    /// The same, with another number of [`table_elements`](Self::table_elements).
    #[must_use]
    pub const fn with_table_elements(mut self, table_elements: usize) -> Self {
        self.table_elements = table_elements;
        self
    }

    /// The same, with another [`time`](Self::time).
    #[must_use]
    pub const fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// The same, with another largest [`payload`](Self::payload).
    #[must_use]
    pub const fn with_payload(mut self, payload: usize) -> Self {
        self.payload = payload;
        self
    }

    /// The same, with another limit of the memory of JSON, [`json_memory`](Self::json_memory).
    #[must_use]
    pub const fn with_json_memory(mut self, json_memory: usize) -> Self {
        self.json_memory = json_memory;
        self
    }

    /// The same, with another limit of the memory of resources, [`host_memory`](Self::host_memory).
    #[must_use]
    pub const fn with_host_memory(mut self, host_memory: usize) -> Self {
        self.host_memory = host_memory;
        self
    }

    /// Instances are not reused, so none wait.
    pub(crate) fn pool(&self) -> PoolConfig {
        turns(self.calls, self.max_wait)
    }
}

/// A pool that only says whose turn it is.
pub(crate) fn turns(size: usize, max_wait: Duration) -> PoolConfig {
    PoolConfig::default().with_size(size).with_idle(0).with_warm(0).with_max_wait(max_wait)
}
