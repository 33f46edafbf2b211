//! Who may start a process by a name: one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxBuildHasher;
use tokio::sync;

/// The names by which processes are being started. A name is kept only while somebody has a turn, or waits for one.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Arc<str>, Line, FxBuildHasher>>);

/// Those that want to start a process by one name.
#[derive(Default)]
struct Line {
    length: usize,
    first: Arc<sync::Mutex<()>>,
}

/// A place in such a line. Dropping it leaves the line, wherever in it that is.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    name: Arc<str>,
    first: Arc<sync::Mutex<()>>,
}

impl Turns {
    pub(super) fn line_up(&self, name: &str) -> Turn<'_> {
        let name: Arc<str> = name.into();
        let mut lines = self.lines();
        let line = lines.entry(Arc::clone(&name)).or_default();
        line.length += 1;
        Turn { turns: self, name, first: Arc::clone(&line.first) }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Arc<str>, Line, FxBuildHasher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Waits until those before are gone. The turn is over when what this gives is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the others pass.
    pub(super) async fn taken(&self) -> sync::MutexGuard<'_, ()> {
        self.first.lock().await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        let Some(line) = lines.get_mut(&self.name) else { return };
        line.length -= 1;
        if line.length == 0 {
            lines.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_at_a_time_has_the_turn_and_who_gives_up_lets_the_next_pass() {
        let turns = Turns::default();
        let lined_up = [(); 3].map(|()| turns.line_up("name"));
        let [first, second, third] = &lined_up;
        let (mut first, mut third) = (Box::pin(first.taken()), Box::pin(third.taken()));
        let mut second = Box::pin(second.taken());
        let Poll::Ready(taken) = poll(first.as_mut()) else { panic!("nobody is before it") };
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        let other = turns.line_up("other");
        assert!(poll(pin!(other.taken())).is_ready(), "another name is nothing to it");
        drop(second);
        assert!(poll(third.as_mut()).is_pending());
        drop(taken);
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn a_name_is_kept_as_long_as_somebody_uses_it() {
        let turns = Turns::default();
        let (first, second) = (turns.line_up("name"), turns.line_up("name"));
        assert_eq!(turns.lines().len(), 1);
        drop(first);
        assert!(Arc::ptr_eq(&turns.line_up("name").first, &second.first), "it is the same line");
        drop(second);
        assert!(turns.lines().is_empty());
    }
}
