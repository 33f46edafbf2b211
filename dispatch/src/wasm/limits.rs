//! What a call may use of memory.

use std::fmt;

use wasmtime::ResourceLimiter;

use super::config::WasmConfig;

/// Counts what the memories and tables of one call have, and remembers whether it refused them more.
#[derive(Debug)]
pub(crate) struct Limits {
    memory: Account,
    table_elements: Account,
}

/// What is used of something, and how much of it there may be.
#[derive(Debug)]
struct Account {
    limit: usize,
    used: usize,
    /// What was granted last, until the next request: it is given back if the growth fails all the same.
    granted: usize,
    is_refused: bool,
}

/// What a call was refused more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory { limit: usize },
    TableElements { limit: usize },
}

impl Limits {
    pub(crate) const fn new(config: &WasmConfig) -> Self {
        Self { memory: Account::new(config.memory), table_elements: Account::new(config.table_elements) }
    }

    /// What was refused in the course of the call, if anything was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        if self.memory.is_refused {
            return Some(Refused::Memory { limit: self.memory.limit });
        }
        let Account { limit, is_refused, .. } = self.table_elements;
        is_refused.then_some(Refused::TableElements { limit })
    }
}

impl Account {
    const fn new(limit: usize) -> Self {
        Self { limit, used: 0, granted: 0, is_refused: false }
    }

    fn grant(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        self.granted = 0;
        // Beyond its own maximum it fails anyway, and by no limit of ours.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        let growth = desired.saturating_sub(current);
        match self.used.checked_add(growth) {
            Some(used) if used <= self.limit => {
                self.used = used;
                self.granted = growth;
                true
            }
            _ => {
                self.is_refused = true;
                false
            }
        }
    }

    fn give_back(&mut self) {
        self.used -= std::mem::take(&mut self.granted);
        self.is_refused = true;
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

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "a memory was granted and could not grow");
        self.memory.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.table_elements.grant(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "a table was granted and could not grow");
        self.table_elements.give_back();
        Ok(())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { limit } => write!(f, "it needs more than the {limit} bytes of memory it may have"),
            Self::TableElements { limit } => {
                write!(f, "it needs more than the {limit} table elements it may have")
            }
        }
    }
}
