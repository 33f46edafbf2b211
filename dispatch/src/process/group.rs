//! Groups of processes, to which messages are published.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::task::coop::consume_budget;
use tokio::task::yield_now;

use super::cell::ProcessCell;
use super::error::ProcessError;
use super::host::HostId;
use super::mailbox::Undelivered;
use super::manager::ProcessManager;
use super::message::Message;
use super::names;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;

/// The most processes that watch a group. Each change visits all of them, also the end of a member.
const MAX_WATCHERS: usize = 64;

/// How long a message is published before other tasks run.
const MAX_POLL: Duration = Duration::from_millis(1);

/// The name of a group of processes: a host, and a name on that host.
///
/// A group exists while it has members. They may run on any host. The group's own host limits how many it may
/// [have](super::HostConfig::group_members). Scripts and components use the groups of hosts on which they may spawn processes.
///
/// ```
/// use frame_dispatch::process::GroupId;
///
/// let news = GroupId::new("app:workers".parse()?, "news")?;
/// assert_eq!(news.to_string(), "news of app:workers");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    host: HostId,
    name: Arc<str>,
}

impl GroupId {
    /// Creates the name of a group on a host.
    ///
    /// # Errors
    ///
    /// [`GroupError::InvalidName`] if `name` is not a valid name. The rules are those for names of processes.
    pub fn new(host: HostId, name: &str) -> Result<Self, GroupError> {
        names::check(name).map_err(|name| GroupError::InvalidName { name })?;
        Ok(Self { host, name: name.into() })
    }

    /// Returns the host.
    pub const fn host(&self) -> &HostId {
        &self.host
    }

    /// Returns the name on that host.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.host)
    }
}

/// A process did not join a group, or the group is not possible.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The name is not valid.
    #[error(
        "{name:?} is not a valid name for a group; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name. A long one is cut off.
        name: String,
    },
    /// The host is not registered.
    #[error("unknown host `{host}`, which therefore has no groups")]
    UnknownHost {
        /// Its id.
        host: HostId,
    },
    /// The process has reached its limit of groups that it is in or watches.
    #[error("{pid} has reached its group limit of {limit} (`groups` of its host); leave one first")]
    TooManyGroups {
        /// The process.
        pid: Pid,
        /// The [limit](super::HostConfig::groups).
        limit: usize,
    },
    /// The group has reached its limit of members.
    #[error("the group {group} has reached its member limit of {limit} (`group_members` of the host)")]
    TooManyMembers {
        /// The group.
        group: GroupId,
        /// The [limit](super::HostConfig::group_members).
        limit: usize,
    },
    /// The group has reached its limit of watchers.
    #[error("the group {group} has reached its watcher limit of {limit}")]
    TooManyWatchers {
        /// The group.
        group: GroupId,
        /// The limit.
        limit: usize,
    },
    /// The process is not alive.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl From<GroupError> for CallError {
    fn from(error: GroupError) -> Self {
        let kind = match error {
            GroupError::InvalidName { .. } => ErrorKind::Invalid,
            GroupError::UnknownHost { .. } => ErrorKind::NotFound,
            GroupError::TooManyGroups { .. }
            | GroupError::TooManyMembers { .. }
            | GroupError::TooManyWatchers { .. } => ErrorKind::Exhausted,
            GroupError::Process(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

/// The outcome of [publishing](ProcessManager::publish) a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The number of members that have it in their mailboxes.
    pub delivered: usize,
    /// The number of members whose mailboxes were full.
    pub full: usize,
}

/// The groups that have members or are watched.
#[derive(Default)]
pub(crate) struct Groups(DashMap<GroupId, Group>);

/// Processes by the number of their PID, the oldest first.
#[derive(Default)]
struct Group {
    members: BTreeMap<u64, Arc<ProcessCell>>,
    watchers: BTreeMap<u64, Arc<ProcessCell>>,
}

/// How a process uses a group.
struct GroupUse {
    group: GroupId,
    is_member: bool,
    watch: Watch,
}

/// Whether a process is notified of changes of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    No,
    Yes,
    /// It has an unread message of a change.
    Notified,
}

/// The groups that a process is in or watches.
#[derive(Default)]
pub(crate) struct GroupUses(Vec<GroupUse>);

impl GroupUses {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&mut self, group: &GroupId) -> Option<&mut GroupUse> {
        self.0.iter_mut().find(|used| used.group == *group)
    }

    /// Returns the use of a group. Adds one if there are fewer than `limit`.
    fn get_or_add(
        &mut self,
        group: &GroupId,
        (pid, limit): (Pid, usize),
    ) -> Result<&mut GroupUse, GroupError> {
        let index = match self.0.iter().position(|used| used.group == *group) {
            Some(index) => index,
            None if self.0.len() >= limit => return Err(GroupError::TooManyGroups { pid, limit }),
            None => {
                self.0.push(GroupUse { group: group.clone(), is_member: false, watch: Watch::No });
                self.0.len() - 1
            }
        };
        Ok(&mut self.0[index])
    }

    fn forget_unused(&mut self) {
        self.0.retain(|used| used.is_member || used.watch != Watch::No);
    }
}

impl Groups {
    /// Returns the members of a group, the oldest first. Some may be ending.
    pub(crate) fn members(&self, group: &GroupId) -> Vec<Arc<ProcessCell>> {
        let found = self.0.get(group);
        found.map(|group| group.members.values().cloned().collect()).unwrap_or_default()
    }

    /// Adds a process to one of the two sets of a group, unless the set has `limit` of them. Returns whether it was added. The
    /// caller holds the state of the process.
    fn add(
        &self,
        id: &GroupId,
        process: &Arc<ProcessCell>,
        limit: usize,
        set: fn(&mut Group) -> &mut BTreeMap<u64, Arc<ProcessCell>>,
    ) -> bool {
        let mut group = self.0.entry(id.clone()).or_default();
        let processes = set(&mut group);
        let has_room = processes.len() < limit;
        if has_room {
            processes.insert(process.pid.number(), Arc::clone(process));
        }
        drop(group);
        self.forget_unused(id);
        has_room
    }

    fn remove(&self, id: &GroupId, pid: Pid, set: fn(&mut Group) -> &mut BTreeMap<u64, Arc<ProcessCell>>) {
        let removed = self.0.get_mut(id).and_then(|mut group| set(&mut group).remove(&pid.number()));
        drop(removed);
        self.forget_unused(id);
    }

    fn forget_unused(&self, id: &GroupId) {
        self.0.remove_if(id, |_, group| group.members.is_empty() && group.watchers.is_empty());
    }

    /// Notifies the watchers of a group that its members have changed. The caller holds no lock.
    fn notify_watchers(&self, id: &GroupId) {
        let Some(group) = self.0.get(id).filter(|group| !group.watchers.is_empty()) else { return };
        let watchers: Vec<_> = group.watchers.values().cloned().collect();
        drop(group);
        for watcher in watchers {
            notify_changed(&watcher, id);
        }
    }

    /// Removes a process that has ended from its groups. The caller holds no lock.
    pub(crate) fn remove_process(&self, pid: Pid, uses: GroupUses) {
        for used in uses.0 {
            if used.watch != Watch::No {
                self.remove(&used.group, pid, |group| &mut group.watchers);
            }
            if used.is_member {
                self.remove(&used.group, pid, |group| &mut group.members);
                self.notify_watchers(&used.group);
            }
        }
    }
}

/// Delivers a message of a change, unless one is unread.
fn notify_changed(watcher: &ProcessCell, group: &GroupId) {
    let mut state = watcher.state();
    if state.has_ended() {
        return;
    }
    let used = state.groups().and_then(|groups| groups.find(group));
    if let Some(used) = used.filter(|used| used.watch == Watch::Yes) {
        used.watch = Watch::Notified;
        watcher.push_system(state, Message::GroupChanged(group.clone()));
    }
}

/// Notes that a message of a change was received.
pub(crate) fn received_change(watcher: &ProcessCell, group: &GroupId) {
    let mut state = watcher.state();
    let used = state.groups().and_then(|groups| groups.find(group));
    if let Some(used) = used.filter(|used| used.watch == Watch::Notified) {
        used.watch = Watch::Yes;
    }
}

/// Returns how many members a group may have.
fn member_limit(manager: &ProcessManager, group: &GroupId) -> Result<usize, GroupError> {
    let host = manager.host(&group.host);
    let host = host.ok_or_else(|| GroupError::UnknownHost { host: group.host.clone() })?;
    Ok(host.config.group_members)
}

/// Makes a process a member of a group. Returns whether it was not one before.
pub(crate) fn join(manager: &ProcessManager, group: &GroupId, pid: Pid) -> Result<bool, GroupError> {
    let limit = member_limit(manager, group)?;
    let cell = manager.cells().get_alive(pid)?;
    // The state is locked first, so that a process that ends leaves the group, or has ended before.
    let mut state = cell.state();
    if let Some(exit) = state.exit_of(pid) {
        return Err(ProcessError::Ended { exit }.into());
    }
    let groups = &mut state.relations().groups;
    let used = groups.get_or_add(group, (pid, cell.host.config.groups))?;
    if used.is_member {
        return Ok(false);
    }
    used.is_member = manager.groups().add(group, &cell, limit, |group| &mut group.members);
    let is_member = used.is_member;
    groups.forget_unused();
    drop(state);
    if !is_member {
        return Err(GroupError::TooManyMembers { group: group.clone(), limit });
    }
    manager.groups().notify_watchers(group);
    Ok(true)
}

/// Ends the membership of a process in a group. Returns whether it was a member.
pub(crate) fn leave(manager: &ProcessManager, group: &GroupId, pid: Pid) -> bool {
    let Some(cell) = manager.cells().find(pid) else { return false };
    let mut state = cell.state();
    let Some(groups) = state.groups() else { return false };
    let Some(used) = groups.find(group).filter(|used| used.is_member) else { return false };
    used.is_member = false;
    groups.forget_unused();
    manager.groups().remove(group, pid, |group| &mut group.members);
    drop(state);
    manager.groups().notify_watchers(group);
    true
}

/// Sends a message to each member of a group that has room for it.
pub(crate) async fn publish(
    manager: &ProcessManager,
    ctx: &CallContext,
    group: &GroupId,
    mut payload: Payload,
) -> Published {
    let mut published = Published::default();
    let mut members = manager.groups().members(group).into_iter();
    let mut began = Instant::now();
    while let Some(member) = members.next() {
        consume_budget().await;
        // The budget does not account for copies of a large payload.
        if began.elapsed() > MAX_POLL {
            yield_now().await;
            began = Instant::now();
        }
        let copy = if members.len() == 0 { std::mem::take(&mut payload) } else { payload.clone() };
        match member.mailbox.try_send(Message::sent(ctx, copy, None)) {
            Ok(()) => published.delivered += 1,
            Err(Undelivered::Full(_)) => published.full += 1,
            Err(Undelivered::Closed(_)) => (),
        }
    }
    published
}

/// Notifies a process of changes of a group from now on. Returns whether it did not watch the group before.
pub(crate) fn watch(cell: &Arc<ProcessCell>, group: &GroupId) -> Result<bool, GroupError> {
    member_limit(&cell.manager, group)?;
    let mut state = cell.state();
    if let Some(exit) = state.exit_of(cell.pid) {
        return Err(ProcessError::Ended { exit }.into());
    }
    let groups = &mut state.relations().groups;
    let used = groups.get_or_add(group, (cell.pid, cell.host.config.groups))?;
    if used.watch != Watch::No {
        return Ok(false);
    }
    let limit = MAX_WATCHERS;
    let is_added = cell.manager.groups().add(group, cell, limit, |group| &mut group.watchers);
    used.watch = if is_added { Watch::Yes } else { Watch::No };
    groups.forget_unused();
    if is_added { Ok(true) } else { Err(GroupError::TooManyWatchers { group: group.clone(), limit }) }
}

/// Stops watching a group. Returns whether the process watched it.
pub(crate) fn unwatch(cell: &ProcessCell, group: &GroupId) -> bool {
    let mut state = cell.state();
    let Some(groups) = state.groups() else { return false };
    let Some(used) = groups.find(group).filter(|used| used.watch != Watch::No) else { return false };
    let is_notified = std::mem::replace(&mut used.watch, Watch::No) == Watch::Notified;
    groups.forget_unused();
    cell.manager.groups().remove(group, cell.pid, |group| &mut group.watchers);
    if is_notified {
        let is_of_group =
            |message: &Message| matches!(message, Message::GroupChanged(other) if other == group);
        let discarded = cell.mailbox.discard(is_of_group);
        drop(discarded);
    }
    true
}
