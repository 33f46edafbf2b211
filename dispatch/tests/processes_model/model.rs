//! Processes as they are meant to be, without threads, tasks and mailboxes.
//!
//! Which of several processes ends first is not laid down. So the model is told of each end in the order in which they
//! came, says whether it could come, and what follows from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use frame_dispatch::Pid;
use frame_dispatch::process::MonitorRef;
use tokio::time::Instant;

use crate::operation::{Ending, OnCancel};
use crate::puppet::{FAILED, Heard, PANICKED, Refusal, SAID_CANCELLED, Why};

/// How many exits are remembered.
pub(crate) const EXITS: usize = 3;
/// How many processes live on a host.
pub(crate) const PROCESSES: usize = 6;

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) processes: BTreeMap<Pid, Process>,
    pub(crate) names: BTreeMap<String, Pid>,
    recent: VecDeque<Pid>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) host: u8,
    pub(crate) parent: Option<Pid>,
    pub(crate) on_cancel: OnCancel,
    pub(crate) links: BTreeSet<Pid>,
    pub(crate) monitors: BTreeSet<MonitorRef>,
    /// The last monitor that it made of each process, also if that is no more.
    last_monitors: BTreeMap<Pid, MonitorRef>,
    pub(crate) traps: bool,
    pub(crate) is_deaf: bool,
    /// What it has not received, because it is deaf.
    pub(crate) mailbox: VecDeque<Heard>,
    /// What it hears in this step.
    pub(crate) heard: Vec<Heard>,
    pub(crate) cancelled: Option<String>,
    pub(crate) kill_at: Option<Instant>,
    /// How it ends of itself.
    ends: Option<Why>,
    /// How it is ended, wherever it is.
    is_ended: Option<Why>,
    pub(crate) exit: Option<Why>,
}

impl Process {
    pub(crate) fn new(host: u8, parent: Option<Pid>, on_cancel: OnCancel) -> Self {
        Self {
            host,
            parent,
            on_cancel,
            links: BTreeSet::new(),
            monitors: BTreeSet::new(),
            last_monitors: BTreeMap::new(),
            traps: false,
            is_deaf: false,
            mailbox: VecDeque::new(),
            heard: Vec::new(),
            cancelled: None,
            kill_at: None,
            ends: None,
            is_ended: None,
            exit: None,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.exit.is_none()
    }

    /// Something is there for it to receive.
    pub(crate) fn hear(&mut self, heard: Heard) {
        if !self.is_alive() {
            return;
        }
        if self.is_deaf {
            self.mailbox.push_back(heard);
            return;
        }
        let is_cancelled = matches!(heard, Heard::Cancelled { .. });
        self.heard.push(heard);
        match self.on_cancel {
            OnCancel::BeDone if is_cancelled => self.end(Ending::Done),
            OnCancel::SayCancelled if is_cancelled => self.end(Ending::SayCancelled),
            OnCancel::Fail if is_cancelled => self.end(Ending::Fail),
            _ => (),
        }
    }

    pub(crate) fn deafen(&mut self, is_deaf: bool) {
        self.is_deaf = is_deaf;
        if !is_deaf {
            for heard in mem::take(&mut self.mailbox) {
                if self.ends.is_none() {
                    self.hear(heard);
                }
            }
        }
    }

    /// It ends of itself.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.ends.get_or_insert(match (ending, &self.cancelled) {
            (Ending::Done, _) => Why::Normal,
            (Ending::Fail, _) => Why::Failed(FAILED.to_owned()),
            (Ending::SayCancelled, Some(reason)) => Why::Cancelled(reason.clone()),
            (Ending::SayCancelled, None) => Why::Failed(SAID_CANCELLED.to_owned()),
            (Ending::Panic, _) => Why::Panicked(format!("panicked: {PANICKED}")),
        });
    }

    /// Somebody ends it. The first reason counts.
    pub(crate) fn terminate(&mut self, why: Why) {
        if self.is_alive() {
            self.is_ended.get_or_insert(why);
        }
    }

    /// Somebody asks it to end.
    pub(crate) fn cancel(&mut self, reason: &str) {
        if self.cancelled.is_none() {
            self.cancelled = Some(reason.to_owned());
            self.hear(Heard::Cancelled { reason: reason.to_owned() });
        }
    }

    /// Nothing more is to be expected of it in this step.
    pub(crate) fn assert_settled(&self, pid: Pid) {
        let ends = self.is_ended.as_ref().or(self.ends.as_ref());
        assert!(ends.is_none() || !self.is_alive(), "{pid} has not ended, although {ends:?}");
    }
}

impl Model {
    pub(crate) fn add(&mut self, pid: Pid, process: Process, name: Option<String>) {
        assert!(self.processes.insert(pid, process).is_none(), "{pid} was given twice");
        if let Some(name) = name {
            assert_eq!(self.names.insert(name, pid), None);
        }
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = (Pid, &Process)> {
        self.processes.iter().filter(|(_, process)| process.is_alive()).map(|(pid, process)| (*pid, process))
    }

    pub(crate) fn living_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.processes.values_mut().filter(|process| process.is_alive())
    }

    pub(crate) fn living_on(&self, host: u8) -> usize {
        self.living().filter(|(_, process)| process.host == host).count()
    }

    /// A process that lives, or what is said of one that does not.
    pub(crate) fn find(&mut self, pid: Pid) -> Result<&mut Process, Refusal> {
        let is_remembered = self.recent.contains(&pid);
        match self.processes.get_mut(&pid) {
            Some(process) => match &process.exit {
                None => Ok(process),
                Some(exit) if is_remembered => Err(Refusal::Ended(exit.clone())),
                Some(_) => Err(Refusal::Unknown),
            },
            None => Err(Refusal::Unknown),
        }
    }

    /// The same, for who sends something.
    pub(crate) fn receiver(&mut self, pid: Pid) -> Result<&mut Process, Refusal> {
        self.find(pid).map_err(|refusal| match refusal {
            Refusal::Ended(_) => Refusal::SendToEnded,
            refusal => refusal,
        })
    }

    /// Who is to be started can be.
    pub(crate) fn can_start(&self, host: u8, name: Option<&String>) -> Result<(), Refusal> {
        if let Some(holder) = name.and_then(|name| self.names.get(name)) {
            return Err(Refusal::NameTaken(*holder));
        }
        if self.living_on(host) == PROCESSES { Err(Refusal::HostFull) } else { Ok(()) }
    }

    pub(crate) fn link(&mut self, one: Pid, other: Pid) -> Result<(), Refusal> {
        self.find(one)?;
        self.find(other)?;
        if one != other {
            self.find(one)?.links.insert(other);
            self.find(other)?.links.insert(one);
        }
        Ok(())
    }

    pub(crate) fn unlink(&mut self, one: Pid, other: Pid) {
        for (one, other) in [(one, other), (other, one)] {
            if let Ok(process) = self.find(one) {
                process.links.remove(&other);
            }
        }
    }

    pub(crate) fn can_monitor(&mut self, by: Pid, other: Pid) -> Result<(), Refusal> {
        if by == other {
            return Err(Refusal::Itself);
        }
        self.find(by)?;
        match self.find(other) {
            Ok(_) | Err(Refusal::Ended(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// A monitor was made, of a process that lives or has ended.
    pub(crate) fn monitor(&mut self, by: Pid, monitor: MonitorRef) {
        let ended = match self.find(monitor.pid()) {
            Err(Refusal::Ended(why)) => Some(why),
            _ => None,
        };
        let Ok(by) = self.find(by) else { return };
        by.last_monitors.insert(monitor.pid(), monitor);
        match ended {
            Some(why) => {
                let (pid, monitor) = (monitor.pid(), Some(monitor));
                by.hear(Heard::Exited { pid, why, has_result: false, monitor });
            }
            None => _ = by.monitors.insert(monitor),
        }
    }

    /// The last monitor that a process made of another; if there is none that of a start, which may not be there.
    pub(crate) fn last_monitor(&mut self, by: Pid, other: Pid) -> MonitorRef {
        let last = self.find(by).ok().and_then(|by| by.last_monitors.get(&other).copied());
        last.unwrap_or_else(|| other.into())
    }

    pub(crate) fn demonitor(&mut self, by: Pid, monitor: MonitorRef) -> bool {
        let Ok(process) = self.find(by) else { return false };
        let before = process.mailbox.len();
        if process.monitors.remove(&monitor) {
            return true;
        }
        let is_told =
            |heard: &Heard| matches!(heard, Heard::Exited { monitor: Some(it), .. } if *it == monitor);
        process.mailbox.retain(|heard| !is_told(heard));
        process.mailbox.len() < before
    }

    pub(crate) fn register(&mut self, name: &str, pid: Pid) -> Result<(), Refusal> {
        self.find(pid)?;
        match self.names.get(name) {
            Some(holder) if *holder != pid => Err(Refusal::NameTaken(*holder)),
            _ => {
                self.names.insert(name.to_owned(), pid);
                Ok(())
            }
        }
    }

    /// A process ended. Those that monitor it are told first, then those that it is linked to.
    pub(crate) fn ended(&mut self, ended: Pid, why: &Why) {
        let process = self.processes.get_mut(&ended).expect("it was started");
        assert_eq!(process.exit, None, "{ended} ended twice");
        let expected = process.is_ended.as_ref().or(process.ends.as_ref());
        assert_eq!(Some(why), expected, "{ended} did not end as it should");
        process.exit = Some(why.clone());
        process.monitors.clear();
        process.mailbox.clear();
        process.kill_at = None;
        let links = mem::take(&mut process.links);
        self.names.retain(|_, holder| *holder != ended);
        self.recent.push_back(ended);
        if self.recent.len() > EXITS {
            self.recent.pop_front();
        }
        for other in self.living_mut() {
            let monitors: Vec<_> = other.monitors.iter().copied().filter(|it| it.pid() == ended).collect();
            for monitor in monitors {
                other.monitors.remove(&monitor);
                let (has_result, monitor) = (*why == Why::Normal, Some(monitor));
                other.hear(Heard::Exited { pid: ended, why: why.clone(), has_result, monitor });
            }
        }
        for linked in links {
            let linked = self.find(linked).expect("links are both ways, and end with one of the two");
            linked.links.remove(&ended);
            match why {
                Why::Normal => (),
                why if linked.traps => linked.hear(Heard::LinkDown { pid: ended, why: why.clone() }),
                Why::LinkDown(..) => linked.terminate(why.clone()),
                why => linked.terminate(Why::LinkDown(ended, Box::new(why.clone()))),
            }
        }
    }
}
