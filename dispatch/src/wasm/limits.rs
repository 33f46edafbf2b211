//! What a call may use of memory.

use std::fmt;

use wasmtime::ResourceLimiter;

use super::config::WasmConfig;

/// Counts what the memories and tables of one call have, and remembers whether it refused them more.
#[derive(Debug)]
pub(crate) struct Limits {
    memory: Usage,
    table_elements: Usage,
    resources: Usage,
}

/// What is used of something, and how much of it there may be.
#[derive(Debug)]
struct Usage {
    limit: usize,
    used: usize,
    is_refused: bool,
}

/// What a call was refused more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExceededLimit {
    Memory { limit: usize },
    TableElements { limit: usize },
    HostMemory { limit: usize },
}

impl Limits {
    pub(crate) const fn new(config: &WasmConfig) -> Self {
        Self {
            memory: Usage::new(config.memory),
            table_elements: Usage::new(config.table_elements),
            resources: Usage::new(config.host_memory),
        }
    }

    /// What was refused in the course of the call, if anything was.
    pub(crate) fn refused(&self) -> Option<ExceededLimit> {
        if self.memory.is_refused {
            return Some(ExceededLimit::Memory { limit: self.memory.limit });
        }
        if self.resources.is_refused {
            return Some(self.host_memory());
        }
        let Usage { limit, is_refused, .. } = self.table_elements;
        is_refused.then_some(ExceededLimit::TableElements { limit })
    }

    /// Notes how much memory of the host its resources take. If that was once more than they may take, dropping some of them
    /// changes nothing: when the guest is ended is a matter of chance, and whether it is must not be.
    pub(crate) const fn set_resources(&mut self, bytes: usize) {
        self.resources.used = bytes;
        self.resources.is_refused |= bytes > self.resources.limit;
    }

    /// Whether its resources took more than they may: the guest is ended.
    pub(crate) const fn is_exceeded(&self) -> bool {
        self.resources.is_refused
    }

    /// That its resources take more than they may.
    pub(crate) const fn host_memory(&self) -> ExceededLimit {
        ExceededLimit::HostMemory { limit: self.resources.limit }
    }

    /// What was refused up to now is no reason why the guest fails.
    pub(crate) const fn forgive(&mut self) {
        self.memory.is_refused = false;
        self.table_elements.is_refused = false;
    }
}

impl Usage {
    const fn new(limit: usize) -> Self {
        Self { limit, used: 0, is_refused: false }
    }

    /// Whether there may be `desired` in place of `current`. What is granted stays counted, also where the growth then
    /// fails because the machine has no more.
    fn grant(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.is_refused = true;
            return false;
        }
        // What is over its own maximum fails, whatever is said here.
        let is_possible = maximum.is_none_or(|maximum| desired <= maximum);
        if is_possible {
            self.used = used;
        }
        is_possible
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.memory.grant(current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.table_elements.grant(current, desired, maximum))
    }
}

impl fmt::Display for ExceededLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { limit } => write!(f, "it needs more than the {limit} bytes of memory it may have"),
            Self::TableElements { limit } => {
                write!(f, "it needs more than the {limit} table elements it may have")
            }
            Self::HostMemory { limit } => write!(
                f,
                "its resources take more than the {limit} bytes of the limit `host_memory`; it drops too few of its handles"
            ),
        }
    }
}
