//! Monitors under every interleaving: `src/process/monitoring.rs` and `src/process/mailbox.rs` themselves, compiled with loom's
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
    pub(super) type Pid = u32;
}

mod exit {
    use crate::pid::Pid;

    #[derive(Debug, Clone, PartialEq)]
    pub(super) struct Exit {
        pub(super) pid: Pid,
        pub(super) result: Option<u32>,
    }
}

mod error {
    use crate::exit::Exit;
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

mod monitor {
    use std::cell::Cell;

    use crate::pid::Pid;

    thread_local! {
        /// The threads of a model are one of the system.
        pub(super) static LAST_NUMBER: Cell<u64> = const { Cell::new(100) };
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub(super) struct MonitorRef {
        pid: Pid,
        number: u64,
    }

    impl MonitorRef {
        pub(super) fn next(pid: Pid) -> Self {
            let number = LAST_NUMBER.get() + 1;
            LAST_NUMBER.set(number);
            Self { pid, number }
        }

        pub(super) const fn pid(&self) -> Pid {
            self.pid
        }

        pub(super) const fn watcher_key(&self, _: Pid) -> u64 {
            self.number
        }
    }
}

mod message {
    use crate::exit::Exit;
    use crate::monitor::MonitorRef;

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
    use crate::exit::Exit;
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
        pub(super) fn gone(&self, pid: Pid) -> ProcessError {
            ProcessError::Unknown { pid }
        }
    }
}

/// What a process is for those that monitor it. Its end is in the order of the real one.
mod cell {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use loom::sync::{Mutex, MutexGuard};

    use crate::exit::Exit;
    use crate::mailbox::Mailbox;
    use crate::manager::Manager;
    use crate::message::Message;
    use crate::monitor::MonitorRef;
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
            self.0.insert(monitor.watcher_key(0))
        }

        pub(super) fn remove(&mut self, monitor: &MonitorRef) -> bool {
            self.1.retain(|other| other != monitor);
            self.0.remove(&monitor.watcher_key(0))
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

        pub(super) fn tell(&self, state: MutexGuard<'_, State>, message: Message) {
            let receiver = self.mailbox.tell(message, usize::MAX).expect("there is no limit");
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
            self.tell_related(&exit, relations);
        }

        pub(super) fn note_end(&self) -> Exit {
            let exit = Exit { pid: self.pid, result: None };
            self.state().exit = Some(exit.clone());
            exit
        }

        pub(super) fn forget(&self, exit: &Exit) {
            drop(self.mailbox.close());
            self.manager.recent.lock().unwrap().insert(self.pid, exit.clone());
            let removed = self.manager.found.lock().unwrap().remove(&self.pid);
            drop(removed);
        }

        pub(super) fn tell_related(&self, exit: &Exit, relations: Option<Box<Relations>>) {
            let Some(relations) = relations else { return };
            for Watcher::Process(pid, monitor) in relations.watchers.into_values() {
                if let Some(watcher) = self.manager.find(pid) {
                    watcher.deliver(monitor, exit);
                }
            }
            self.end_monitors(relations.monitored);
        }
    }
}

#[path = "../src/process/mailbox.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
mod mailbox;

#[path = "../src/process/monitoring.rs"]
#[allow(clippy::drop_non_drop, reason = "the real watchers do something when they are dropped")]
mod monitoring;

use std::sync::Arc;

use loom::thread;

use self::cell::ProcessCell;
use self::exit::Exit;
use self::manager::Manager;
use self::message::Message;
use self::monitor::{LAST_NUMBER, MonitorRef};

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
    let (first, second) = (ProcessCell::new(1, &manager), ProcessCell::new(2, &manager));
    let ending = thread::spawn(move || end(&second));
    let did = then(&first);
    ending.join().unwrap();
    (first, did)
}

/// The monitors whose exits the process receives.
fn received(process: &ProcessCell) -> Vec<MonitorRef> {
    let messages = std::iter::from_fn(|| process.mailbox.try_receive(&mut mailbox::Fetched::default()));
    let monitor = |Message::Exited { monitor, exit }| {
        assert_eq!(*exit, Exit { pid: monitor.pid(), result: None });
        monitor
    };
    let monitors = messages.map(monitor).collect();
    process.manager.clear();
    monitors
}

fn monitor_while_it_ends(end: impl Fn(&ProcessCell) + Copy + Send + 'static) {
    let (first, monitor) = while_the_second_ends(end, |first| first.monitor(2).unwrap());
    assert_eq!(received(&first), [monitor], "the exit is delivered once");
}

#[test]
fn a_process_that_monitors_one_that_ends_is_told_once() {
    model(|| monitor_while_it_ends(ProcessCell::end));
}

#[test]
#[should_panic(expected = "the exit is delivered once")]
fn the_model_finds_an_end_that_is_noted_after_the_watchers_are_told() {
    model(|| {
        monitor_while_it_ends(|second| {
            let relations = second.state().relations.take();
            second.tell_related(&Exit { pid: 2, result: None }, relations);
            second.note_end();
            second.forget(&Exit { pid: 2, result: None });
        });
    });
}

#[test]
#[should_panic(expected = "Unknown")]
fn the_model_finds_an_exit_that_is_remembered_after_the_process_is_not_found() {
    model(|| {
        monitor_while_it_ends(|second| {
            let exit = second.note_end();
            let removed = second.manager.found.lock().unwrap().remove(&2);
            drop(removed);
            second.forget(&exit);
            let relations = second.state().relations.take();
            second.tell_related(&exit, relations);
        });
    });
}

fn demonitor_while_it_ends(end: impl Fn(&ProcessCell) + Copy + Send + 'static) {
    let (first, is_undone) = while_the_second_ends(end, |first| {
        let monitor = first.monitor(2).unwrap();
        first.demonitor(monitor)
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
            for cell::Watcher::Process(pid, monitor) in
                relations.into_iter().flat_map(|relations| relations.watchers.into_values())
            {
                let watcher = second.manager.find(pid).unwrap();
                let exit = Box::new(exit.clone());
                watcher.tell(watcher.state(), Message::Exited { monitor, exit });
            }
            second.forget(&exit);
        });
    });
}

#[test]
fn of_two_monitors_of_one_process_the_other_stays() {
    model(|| {
        let (first, stays) = while_the_second_ends(ProcessCell::end, |first| {
            let (helper, own) = (first.monitor(2).unwrap(), first.monitor(2).unwrap());
            assert!(first.demonitor(helper));
            own
        });
        assert_eq!(received(&first), [stays]);
    });
}

#[test]
fn a_process_that_ends_leaves_no_watcher_with_one_that_it_monitors() {
    model(|| {
        let manager = Manager::new();
        let (first, second) = (ProcessCell::new(1, &manager), ProcessCell::new(2, &manager));
        // A task of the process that outlives it.
        let monitoring = thread::spawn({
            let first = Arc::clone(&first);
            move || drop(first.monitor(2))
        });
        first.end();
        monitoring.join().unwrap();
        assert_eq!(second.watchers(), 0, "a watcher is left");
        manager.clear();
    });
}
