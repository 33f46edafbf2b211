//! What a call has open: bodies that it reads or writes piece by piece, and events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use frame_dispatch::lua::{Values, mlua};
use frame_dispatch::{CallError, ErrorKind};
use mlua::Lua;

use super::events::Source;
use super::response::Stream;
use super::upload::Upload;
use crate::modules::lua::members::invalid;

/// How many a call has at a time.
const MOST: usize = 16;

/// What a call has open. It is closed when this is dropped.
#[derive(Default)]
pub(super) struct Open {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    by_number: HashMap<u64, Item>,
}

/// One of these. What works on it holds it beside this, for as long as that takes.
#[derive(Clone)]
pub(super) enum Item {
    Stream(Arc<Stream>),
    Upload(Arc<Upload>),
    Events(Arc<Source>),
}

impl Open {
    /// What the call that runs has open, if there is room for one more.
    pub(super) fn of_call(lua: &Lua, values: &Values) -> mlua::Result<Arc<Self>> {
        let open: Arc<Self> = values.of_call()?;
        if open.len() >= MOST {
            // Those that no variable has any more are closed.
            lua.gc_collect()?;
        }
        if open.len() >= MOST {
            let message = format!("a call has at most {MOST} streams of HTTP open at a time; close some");
            return Err(Values::raise(CallError::new(ErrorKind::Exhausted, message).with_retryable(false)));
        }
        Ok(open)
    }

    pub(super) fn add(self: &Arc<Self>, item: Item) -> Handle {
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        table.by_number.insert(number, item);
        Handle { open: Arc::downgrade(self), number }
    }

    fn len(&self) -> usize {
        self.table().by_number.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a script has of an item. That is closed when this is collected, or when the call ends.
pub(super) struct Handle {
    open: Weak<Open>,
    number: u64,
}

impl Handle {
    /// The item, if it is open; `what` is what it is called in the error.
    pub(super) fn item(&self, what: &str) -> mlua::Result<Item> {
        let open = self.open.upgrade();
        let item = open.and_then(|open| open.table().by_number.get(&self.number).cloned());
        item.ok_or_else(|| invalid(format!("{what} is closed")))
    }

    pub(super) fn close(&self) {
        let closed = self.open.upgrade().and_then(|open| open.table().by_number.remove(&self.number));
        drop(closed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
