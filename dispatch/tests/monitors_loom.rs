//! Monitors under every interleaving: `src/process/cell/monitor.rs` and `src/process/mailbox` themselves, compiled with loom's
//! primitives in place of the real ones, between processes that do nothing else. And the same with ends that break the protocol,
//! to show that the model finds it.

mod sync {
    pub(super) use loom::sync::atomic::AtomicU32;
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(super) use std::sync::atomic::Ordering;
}

/// There are no senders that wait.
mod batch {
    use crate::mailbox::Mailbox;

    pub(super) const fn is_open(_: &Mailbox) -> bool {
        false
    }
}

mod pid {
    use std::cell::Cell;
    use std::fmt;
    use std::str::FromStr;

    thread_local! {
        /// The threads of a model are one of the system.
        pub(super) static LAST_NUMBER: Cell<u64> = const { Cell::new(100) };
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[allow(unreachable_pub, reason = "the real one is public")]
    pub struct Pid(pub(super) u64);

    /// All processes are on one host.
    pub(super) struct Host;

    #[derive(Debug)]
    #[allow(dead_code, unreachable_pub, reason = "the real one is public, and shown")]
    pub enum PidError {
        Malformed { text: String },
    }

    impl Pid {
        pub(super) fn next(_: Host) -> Self {
            let number = LAST_NUMBER.get() + 1;
            LAST_NUMBER.set(number);
            Self(number)
        }

        #[allow(clippy::unused_self, reason = "that of the real one differs")]
        pub(super) const fn host(self) -> Host {
            Host
        }

        pub(super) const fn number(self) -> u64 {
            self.0
        }
    }

    impl fmt::Display for Pid {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl FromStr for Pid {
        type Err = PidError;

        fn from_str(text: &str) -> Result<Self, PidError> {
            text.parse().map(Self).map_err(|_not_a_number| PidError::Malformed { text: text.to_owned() })
        }
    }
}

mod error {
    use crate::message::Exit;
    use crate::pid::Pid;

    #[derive(Debug)]
    #[allow(dead_code, reason = "they are shown")]
    pub(super) enum ProcessError {
        Itself { pid: Pid },
        Ended { exit: Exit },
        TooManyMonitors { pid: Pid, limit: usize },
        Unknown { pid: Pid },
    }
}

mod message {
    use crate::monitor::MonitorRef;
    use crate::pid::Pid;

    #[derive(Debug, Clone, PartialEq)]
    #[allow(unreachable_pub, reason = "the real one is public")]
    pub struct Exit {
        pub(super) pid: Pid,
        pub(super) reason: ExitReason,
        pub(super) result: Option<u32>,
    }

    #[derive(Debug, Clone, PartialEq)]
    #[allow(unreachable_pub, reason = "the real one is public")]
    pub enum ExitReason {
        Killed,
    }

    impl Exit {
        pub(super) const fn of(pid: Pid) -> Self {
            Self { pid, reason: ExitReason::Killed, result: None }
        }
    }

    #[derive(Debug)]
    pub(super) enum Message {
        Exited { monitor: MonitorRef, exit: Box<Exit> },
    }

    impl Message {
        pub(super) const fn takes_room(&self) -> bool {
            let Self::Exited { .. } = self;
            false
        }
    }
}

mod manager {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use loom::sync::Mutex;

    use crate::cell::ProcessCell;
    use crate::error::ProcessError;
    use crate::message::Exit;
    use crate::pid::Pid;

    pub(super) struct Config {
        pub(super) monitors: usize,
    }

    /// The processes that are found, and the exits that are remembered.
    pub(super) struct Manager {
        pub(super) found: Mutex<BTreeMap<Pid, Arc<ProcessCell>>>,
        pub(super) recent: Mutex<BTreeMap<Pid, Exit>>,
        config: Config,
    }

    impl Manager {
        pub(super) fn new() -> Arc<Self> {
            let (found, recent) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeMap::new()));
            Arc::new(Self { found, recent, config: Config { monitors: 8 } })
        }

        /// The processes and this keep each other.
        pub(super) fn clear(&self) {
            let found = std::mem::take(&mut *self.found.lock().unwrap());
            drop(found);
        }

        pub(super) const fn cells(&self) -> &Self {
            self
        }

        pub(super) fn config(&self) -> &Config {
            &self.config
        }

        pub(super) fn find(&self, pid: Pid) -> Option<Arc<ProcessCell>> {
            self.found.lock().unwrap().get(&pid).cloned()
        }

        pub(super) fn recent_exit(&self, pid: Pid) -> Option<Exit> {
            self.recent.lock().unwrap().get(&pid).cloned()
        }

        #[allow(clippy::unused_self, reason = "that of the real one looks for the exit")]
        pub(super) fn exit_error(&self, pid: Pid) -> ProcessError {
            ProcessError::Unknown { pid }
        }
    }
}

/// What a process is for those that monitor it. Its end is in the order of the real one.
mod cell {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use loom::sync::{Mutex, MutexGuard};
    use tokio::sync::oneshot;

    use crate::mailbox::Mailbox;
    use crate::manager::Manager;
    use crate::message::{Exit, Message};
    use crate::monitor::{self, MonitorRef};
    use crate::pid::Pid;

    pub(super) struct ProcessCell {
        pub(super) pid: Pid,
        pub(super) manager: Arc<Manager>,
        pub(super) mailbox: Mailbox,
        state: Mutex<State>,
    }

    #[derive(Default)]
    pub(super) struct State {
        pub(super) exit: Option<Exit>,
        pub(super) relations: Option<Box<Relations>>,
    }

    #[derive(Default)]
    pub(super) struct Relations {
        pub(super) monitored: Monitors,
        pub(super) watchers: BTreeMap<u64, Watcher>,
    }

    /// A set whose order is the same in each run of the model.
    #[derive(Default)]
    pub(super) struct Monitors(BTreeSet<u64>, Vec<MonitorRef>);

    impl Monitors {
        pub(super) fn len(&self) -> usize {
            self.0.len()
        }

        pub(super) fn insert(&mut self, monitor: MonitorRef) -> bool {
            self.1.push(monitor);
            self.0.insert(monitor.watcher_key(Pid(0)))
        }

        pub(super) fn remove(&mut self, monitor: &MonitorRef) -> bool {
            self.1.retain(|other| other != monitor);
            self.0.remove(&monitor.watcher_key(Pid(0)))
        }
    }

    impl IntoIterator for Monitors {
        type Item = MonitorRef;
        type IntoIter = std::vec::IntoIter<MonitorRef>;

        fn into_iter(self) -> Self::IntoIter {
            self.1.into_iter()
        }
    }

    pub(super) enum Watcher {
        Process(Pid, MonitorRef),
        #[allow(dead_code, reason = "no model waits for an exit outside of a process")]
        Monitor(oneshot::Sender<Exit>),
    }

    impl State {
        pub(super) const fn has_ended(&self) -> bool {
            self.exit.is_some()
        }

        pub(super) fn exit_of(&self, _: Pid) -> Option<Exit> {
            self.exit.clone()
        }

        pub(super) fn relations(&mut self) -> &mut Relations {
            self.relations.get_or_insert_default()
        }

        pub(super) fn removes(&mut self, remove: impl FnOnce(&mut Relations) -> bool) -> bool {
            self.relations.as_deref_mut().is_some_and(remove)
        }
    }

    impl ProcessCell {
        pub(super) fn new(pid: Pid, manager: &Arc<Manager>) -> Arc<Self> {
            let (manager, mailbox) = (Arc::clone(manager), Mailbox::new(4));
            let process = Arc::new(Self { pid, manager, mailbox, state: Mutex::default() });
            process.manager.found.lock().unwrap().insert(pid, Arc::clone(&process));
            process
        }

        pub(super) fn state(&self) -> MutexGuard<'_, State> {
            self.state.lock().unwrap()
        }

        pub(super) fn push_system(&self, state: MutexGuard<'_, State>, message: Message) {
            let receiver = self.mailbox.push_system(message, usize::MAX).expect("there is no limit");
            drop(state);
            if let Some(receiver) = receiver {
                receiver.wake();
            }
        }

        pub(super) fn watchers(&self) -> usize {
            self.state().relations.as_ref().map_or(0, |relations| relations.watchers.len())
        }

        pub(super) fn end(&self) {
            let exit = self.note_end();
            self.forget(&exit);
            let relations = self.state().relations.take();
            self.notify(&exit, relations);
        }

        pub(super) fn note_end(&self) -> Exit {
            let exit = Exit::of(self.pid);
            self.state().exit = Some(exit.clone());
            exit
        }

        pub(super) fn forget(&self, exit: &Exit) {
            drop(self.mailbox.close());
            self.manager.recent.lock().unwrap().insert(self.pid, exit.clone());
            let removed = self.manager.found.lock().unwrap().remove(&self.pid);
            drop(removed);
        }

        pub(super) fn notify(&self, exit: &Exit, relations: Option<Box<Relations>>) {
            let Some(relations) = relations else { return };
            for watcher in relations.watchers.into_values() {
                let Watcher::Process(pid, monitor) = watcher else { continue };
                if let Some(watcher) = self.manager.find(pid) {
                    monitor::deliver(&watcher, monitor, exit);
                }
            }
            monitor::end_monitors(self, relations.monitored);
        }
    }
}

#[path = "../src/process/mailbox/mod.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
mod mailbox;

#[path = "../src/process/cell/monitor.rs"]
#[allow(dead_code, unreachable_pub, reason = "the models use a part of it")]
mod monitor;

use std::sync::Arc;

use loom::thread;

use self::cell::{ProcessCell, Watcher};
use self::error::ProcessError;
use self::manager::Manager;
use self::message::{Exit, ExitReason, Message};
use self::monitor::MonitorRef;
use self::pid::{LAST_NUMBER, Pid, PidError};

/// All orders of so many steps would take hours.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        LAST_NUMBER.set(100);
        check();
    });
}

/// Two processes, the second of which ends in the way that `end` does while the first does what `then` does.
fn while_the_second_ends<T>(
    end: impl Fn(&ProcessCell) + Copy + Send + 'static,
    then: impl FnOnce(&ProcessCell) -> T,
) -> (Arc<ProcessCell>, T) {
    let manager = Manager::new();
    let (first, second) = (ProcessCell::new(Pid(1), &manager), ProcessCell::new(Pid(2), &manager));
    let ending = thread::spawn(move || end(&second));
    let did = then(&first);
    ending.join().unwrap();
    (first, did)
}

/// The monitors whose exits the process receives.
fn received(process: &ProcessCell) -> Vec<MonitorRef> {
    let messages = std::iter::from_fn(|| process.mailbox.try_receive(&mut mailbox::Fetched::default()));
    let monitor = |Message::Exited { monitor, exit }| {
        assert_eq!(*exit, Exit::of(monitor.pid()));
        monitor
    };
    let monitors = messages.map(monitor).collect();
    process.manager.clear();
    monitors
}

fn monitor_while_it_ends(end: impl Fn(&ProcessCell) + Copy + Send + 'static) {
    let (first, monitor) = while_the_second_ends(end, |first| monitor::monitor(first, Pid(2)).unwrap());
    assert_eq!(received(&first), [monitor], "the exit is delivered once");
}

#[test]
fn a_monitor_of_a_process_that_ends_delivers_one_exit() {
    model(|| monitor_while_it_ends(ProcessCell::end));
}

#[test]
#[should_panic(expected = "the exit is delivered once")]
fn the_model_finds_an_end_that_is_noted_after_the_watchers_are_notified() {
    model(|| {
        monitor_while_it_ends(|second| {
            let relations = second.state().relations.take();
            second.notify(&Exit::of(Pid(2)), relations);
            second.note_end();
            second.forget(&Exit::of(Pid(2)));
        });
    });
}

#[test]
#[should_panic(expected = "Unknown")]
fn the_model_finds_an_exit_that_is_remembered_after_the_process_is_not_found() {
    model(|| {
        monitor_while_it_ends(|second| {
            let exit = second.note_end();
            let removed = second.manager.found.lock().unwrap().remove(&Pid(2));
            drop(removed);
            second.forget(&exit);
            let relations = second.state().relations.take();
            second.notify(&exit, relations);
        });
    });
}

fn demonitor_while_it_ends(end: impl Fn(&ProcessCell) + Copy + Send + 'static) {
    let (first, is_undone) = while_the_second_ends(end, |first| {
        let monitor = monitor::monitor(first, Pid(2)).unwrap();
        monitor::demonitor(first, monitor)
    });
    assert!(is_undone, "there was a monitor or an exit");
    assert_eq!(received(&first), [], "an exit came after the monitor ended");
}

#[test]
fn no_exit_is_received_of_a_monitor_that_was_ended() {
    model(|| demonitor_while_it_ends(ProcessCell::end));
}

#[test]
#[should_panic(expected = "an exit came after the monitor ended")]
fn the_model_finds_an_exit_that_is_delivered_without_a_look_at_the_monitor() {
    model(|| {
        demonitor_while_it_ends(|second| {
            let exit = second.note_end();
            let relations = second.state().relations.take();
            for watcher in relations.into_iter().flat_map(|relations| relations.watchers.into_values()) {
                let Watcher::Process(pid, monitor) = watcher else { continue };
                let watcher = second.manager.find(pid).unwrap();
                let exit = Box::new(exit.clone());
                watcher.push_system(watcher.state(), Message::Exited { monitor, exit });
            }
            second.forget(&exit);
        });
    });
}

#[test]
fn of_two_monitors_of_one_process_the_other_stays() {
    model(|| {
        let (first, stays) = while_the_second_ends(ProcessCell::end, |first| {
            let monitor = || monitor::monitor(first, Pid(2)).unwrap();
            let (helper, own) = (monitor(), monitor());
            assert!(monitor::demonitor(first, helper));
            own
        });
        assert_eq!(received(&first), [stays]);
    });
}

#[test]
fn a_process_that_ends_leaves_no_watcher_with_one_that_it_monitors() {
    model(|| {
        let manager = Manager::new();
        let (first, second) = (ProcessCell::new(Pid(1), &manager), ProcessCell::new(Pid(2), &manager));
        // A task of the process that outlives it.
        let monitoring = thread::spawn({
            let first = Arc::clone(&first);
            move || drop(monitor::monitor(&first, Pid(2)))
        });
        first.end();
        monitoring.join().unwrap();
        assert_eq!(second.watchers(), 0, "a watcher is left");
        manager.clear();
    });
}
