//! The limits of components: when they are compiled, and while they run.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WasmConfig {
    /// How many calls run at once; at least one. Further calls wait for their turn, first come first served: until
    /// their deadline, and no longer than `max_wait`. A call would wait for itself if one of its callers is a call of the
    /// same function, so it is refused at once instead of waiting. Default: 64.
    pub calls: usize,
    /// How long a call waits for its turn at most, and then for one of the engine's instances. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// How many bytes all of its linear memories have together. Default: 64 MiB.
    pub memory: usize,
    /// How many elements all of its tables have together. Default: 20 000.
    pub table_elements: usize,
    /// How long it runs, from when it has its turn; what it waits for, such as a call it makes, is counted. It narrows
    /// the deadline that the call has. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
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

    /// Sets [`calls`](Self::calls).
    #[must_use]
    pub const fn with_calls(mut self, calls: usize) -> Self {
        self.calls = calls;
        self
    }

    /// Sets [`max_wait`](Self::max_wait).
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Sets [`memory`](Self::memory).
    #[must_use]
    pub const fn with_memory(mut self, memory: usize) -> Self {
        self.memory = memory;
        self
    }

    /// Sets [`table_elements`](Self::table_elements).
    #[must_use]
    pub const fn with_table_elements(mut self, table_elements: usize) -> Self {
        self.table_elements = table_elements;
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

    /// Sets [`json_memory`](Self::json_memory).
    #[must_use]
    pub const fn with_json_memory(mut self, json_memory: usize) -> Self {
        self.json_memory = json_memory;
        self
    }

    /// Sets [`host_memory`](Self::host_memory).
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

/// Limits of the work that one component makes for the compiler, which cannot be interrupted.
///
/// They are checked before a component is compiled, and are the same for all components of an engine. The defaults have room for several
/// times of what components need that carry an engine for JavaScript or Python: the numbers below are of such components.
///
/// ```
/// use frame_dispatch::wasm::{ComponentLimits, WasmConfig, WasmEngine, WasmError};
///
/// # let component = frame_guests::guest("echo");
/// let limits = ComponentLimits::default().with_functions(2);
/// let engine = WasmEngine::builder().component_limits(limits).build()?;
/// let refused = engine.function(&component, WasmConfig::default()).unwrap_err();
/// assert!(matches!(refused, WasmError::TooComplex { setting: "functions", limit: 2, .. }));
/// # Ok::<(), WasmError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ComponentLimits {
    /// Bytes of the binary, and bytes of the memory images that the compiler makes of its data. A component of Python has 18 MiB.
    /// Default: 128 MiB.
    pub size: usize,
    /// Levels of components that are defined in, or instantiated by, each other; one component alone is one level. Default: 32.
    #[serde(deserialize_with = "depth")]
    pub depth: u32,
    /// Instances of components and of core modules, each counted as often as it is made. A component of Python has 16.
    /// Default: 1 000.
    pub instances: u64,
    /// Types and named items. A type counts with all types that it consists of wherever it is used, and all of it once more for
    /// each instance. A component of Python has 87 000. Default: 1 000 000.
    pub definitions: u64,
    /// Functions of core modules, and functions between components and the program. A component of Python has 13 500. Default:
    /// 50 000.
    pub functions: u64,
    /// Operators of one function, where a call counts as five. What the compiler takes longer for than there are operators is
    /// added: a quarter of the number of blocks times the number of locals, because each local can have a value of its own in
    /// each block; for each operator a 256th of the values that are there at the time, and sixteen for each value beyond 64
    /// that it passes; and for each block a 128th of the blocks before it. A component of Python has a function of less than
    /// 180 000. Default: 500 000.
    pub function_work: u64,
    /// The same of all functions together. A component of JavaScript has 6 100 000. Default: 50 000 000.
    pub work: u64,
}

impl Default for ComponentLimits {
    fn default() -> Self {
        Self {
            size: 128 << 20,
            depth: 32,
            instances: 1_000,
            definitions: 1_000_000,
            functions: 50_000,
            function_work: 500_000,
            work: 50_000_000,
        }
    }
}

impl ComponentLimits {
    /// Sets [`size`](Self::size).
    #[must_use]
    pub const fn with_size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Sets [`depth`](Self::depth). The compiler is made for no more than 100 levels, which is the largest value that has an effect.
    #[must_use]
    pub const fn with_depth(mut self, depth: u32) -> Self {
        self.depth = if depth > Self::DEEPEST { Self::DEEPEST } else { depth };
        self
    }

    /// Sets [`instances`](Self::instances).
    #[must_use]
    pub const fn with_instances(mut self, instances: u64) -> Self {
        self.instances = instances;
        self
    }

    /// Sets [`definitions`](Self::definitions).
    #[must_use]
    pub const fn with_definitions(mut self, definitions: u64) -> Self {
        self.definitions = definitions;
        self
    }

    /// Sets [`functions`](Self::functions).
    #[must_use]
    pub const fn with_functions(mut self, functions: u64) -> Self {
        self.functions = functions;
        self
    }

    /// Sets [`function_work`](Self::function_work).
    #[must_use]
    pub const fn with_function_work(mut self, function_work: u64) -> Self {
        self.function_work = function_work;
        self
    }

    /// Sets [`work`](Self::work).
    #[must_use]
    pub const fn with_work(mut self, work: u64) -> Self {
        self.work = work;
        self
    }

    /// The walk over instances goes as deep as this by recursion.
    const DEEPEST: u32 = 100;
}

/// Reads a depth as [`ComponentLimits::with_depth`] sets it.
fn depth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let depth = u32::deserialize(deserializer)?;
    Ok(ComponentLimits::default().with_depth(depth).depth)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configurations_are_read_as_they_were_written() {
        for config in [WasmConfig::default(), WasmConfig::process(), WasmConfig::default().with_memory(7)] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<WasmConfig>(&text).unwrap(), config, "{text}");
        }
        let config: WasmConfig = serde_json::from_value(json!({ "time": "2s", "calls": 3 })).unwrap();
        assert_eq!((config.time.as_secs(), config.calls), (2, 3));
        assert!(serde_json::from_value::<WasmConfig>(json!({ "cals": 3 })).is_err());
    }

    #[test]
    fn limits_of_components_are_read_as_they_were_written() {
        for limits in [ComponentLimits::default(), ComponentLimits::default().with_depth(3).with_work(7)] {
            let text = serde_json::to_string(&limits).unwrap();
            assert_eq!(serde_json::from_str::<ComponentLimits>(&text).unwrap(), limits, "{text}");
        }
        let deep: ComponentLimits = serde_json::from_value(json!({ "depth": 1_000 })).unwrap();
        assert_eq!(deep.depth, 100);
    }
}
