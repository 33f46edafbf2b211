//! Groups of processes, to which messages are published.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::task::coop::consume_budget;
use tokio::task::yield_now;

use super::cell::{ProcessCell, State};
use super::context::ProcessContext;
use super::error::ProcessError;
use super::host::HostId;
use super::mailbox::Refused;
use super::manager::ProcessManager;
use super::message::Message;
use super::names;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;

/// How many processes may watch a group. Each change looks at all of them, also that of a process that ends.
const MOST_WATCHERS: usize = 64;

/// How long a message is published before other tasks run.
const LONGEST_POLL: Duration = Duration::from_millis(1);

/// The name of a group of processes: that of a host, and a text.
///
/// A group exists while it has members. Those can live on any host; the group's own host says how many it may
/// [have](super::HostConfig::group_members). Scripts and components use the groups of hosts on which they may start processes.
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
    /// A name of a group on a host.
    ///
    /// # Errors
    ///
    /// [`GroupError::InvalidName`] if `name` could not be the name of a process, either.
    pub fn new(host: HostId, name: &str) -> Result<Self, GroupError> {
        names::check(name).map_err(|name| GroupError::InvalidName { name })?;
        Ok(Self { host, name: name.into() })
    }

    /// The host.
    pub const fn host(&self) -> &HostId {
        &self.host
    }

    /// The name on that host.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.host)
    }
}

/// A process did not join a group, or there can be no such group.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A name that no group can have.
    #[error(
        "{name:?} is not a valid name for a group; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name; of a long one the beginning.
        name: String,
    },
    /// There is no such host.
    #[error("there is no host `{host}`, so it has no groups")]
    UnknownHost {
        /// Its id.
        host: HostId,
    },
    /// The process is in as many groups as it may be. Those that it watches count.
    #[error(
        "{pid} is in or watches {limit} groups, which is the limit (`groups` of its host); leave one first"
    )]
    TooManyGroups {
        /// The process.
        pid: Pid,
        /// The [limit](super::HostConfig::groups).
        limit: usize,
    },
    /// The group has as many members as it may have.
    #[error("the group {group} has {limit} members, which is the limit (`group_members` of the host)")]
    TooManyMembers {
        /// The group.
        group: GroupId,
        /// The [limit](super::HostConfig::group_members).
        limit: usize,
    },
    /// As many processes watch the group as may.
    #[error("{limit} processes watch the group {group}, and no more may")]
    TooManyWatchers {
        /// The group.
        group: GroupId,
        /// The limit.
        limit: usize,
    },
    /// The process does not live.
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

/// What became of a message that was [published](ProcessManager::publish).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many members have it in their mailboxes.
    pub delivered: usize,
    /// How many did not get it, because their mailboxes were full.
    pub full: usize,
}

/// The groups that have members or are watched.
#[derive(Default)]
pub(super) struct Groups(DashMap<GroupId, Group>);

/// Processes by the number of their PID: the oldest first.
#[derive(Default)]
struct Group {
    members: BTreeMap<u64, Arc<ProcessCell>>,
    watchers: BTreeMap<u64, Arc<ProcessCell>>,
}

/// What a process has to do with a group.
pub(super) struct GroupUse {
    group: GroupId,
    is_member: bool,
    watch: Watch,
}

/// Whether a process is told of changes of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    No,
    Yes,
    /// It has an unread message of a change.
    Told,
}

impl Groups {
    fn members(&self, group: &GroupId) -> Vec<Arc<ProcessCell>> {
        let found = self.0.get(group);
        found.map(|group| group.members.values().cloned().collect()).unwrap_or_default()
    }

    /// Adds a process to one of the two sets of a group, unless that has `limit`. Returns whether it did. The caller holds its
    /// state.
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

    /// Tells those that watch a group that its members have changed. The caller holds no lock.
    fn tell_watchers(&self, id: &GroupId) {
        let Some(group) = self.0.get(id).filter(|group| !group.watchers.is_empty()) else { return };
        let watchers: Vec<_> = group.watchers.values().cloned().collect();
        drop(group);
        for watcher in watchers {
            watcher.tell_group_changed(id);
        }
    }

    /// Ends all that a process that has ended has to do with groups. The caller holds no lock.
    pub(super) fn ended(&self, pid: Pid, uses: Vec<GroupUse>) {
        for used in uses {
            if used.watch != Watch::No {
                self.remove(&used.group, pid, |group| &mut group.watchers);
            }
            if used.is_member {
                self.remove(&used.group, pid, |group| &mut group.members);
                self.tell_watchers(&used.group);
            }
        }
    }
}

impl ProcessCell {
    fn tell_group_changed(&self, group: &GroupId) {
        let mut state = self.state();
        if state.has_ended() {
            return;
        }
        let used = state.group_uses().iter_mut().find(|used| used.group == *group);
        if let Some(used) = used.filter(|used| used.watch == Watch::Yes) {
            used.watch = Watch::Told;
            self.tell(state, Message::GroupChanged(group.clone()));
        }
    }

    /// A message of a change was taken out of the mailbox.
    pub(super) fn received_group_changed(&self, group: &GroupId) {
        let mut state = self.state();
        let used = state.group_uses().iter_mut().find(|used| used.group == *group);
        if let Some(used) = used.filter(|used| used.watch == Watch::Told) {
            used.watch = Watch::Yes;
        }
    }
}

impl State {
    /// What there is, without making room for it.
    fn group_uses(&mut self) -> &mut [GroupUse] {
        self.relations.as_deref_mut().map_or_else(|| &mut [][..], |relations| &mut relations.groups)
    }

    /// What the process has to do with a group, and makes room for it if that is not too much.
    fn group_use(
        &mut self,
        group: &GroupId,
        (pid, limit): (Pid, usize),
    ) -> Result<&mut GroupUse, GroupError> {
        let groups = &mut self.relations().groups;
        let place = match groups.iter().position(|used| used.group == *group) {
            Some(place) => place,
            None if groups.len() >= limit => return Err(GroupError::TooManyGroups { pid, limit }),
            None => {
                groups.push(GroupUse { group: group.clone(), is_member: false, watch: Watch::No });
                groups.len() - 1
            }
        };
        Ok(&mut groups[place])
    }

    fn forget_unused_groups(&mut self) {
        if let Some(relations) = self.relations.as_deref_mut() {
            relations.groups.retain(|used| used.is_member || used.watch != Watch::No);
        }
    }
}

impl ProcessManager {
    /// How many members a group may have.
    fn group_limit(&self, group: &GroupId) -> Result<usize, GroupError> {
        let host = self.host(&group.host);
        let host = host.ok_or_else(|| GroupError::UnknownHost { host: group.host.clone() })?;
        Ok(host.config.group_members)
    }

    /// Makes a process a member of a group, until it leaves or ends. Returns whether it was none before.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn join(&self, group: &GroupId, pid: Pid) -> Result<bool, GroupError> {
        let limit = self.group_limit(group)?;
        let instance = self.living(pid)?;
        // The state is locked first, so that a process that ends leaves the group, or has ended before.
        let mut state = instance.state();
        if let Some(exit) = state.exit_of(pid) {
            return Err(ProcessError::Ended { exit }.into());
        }
        let used = state.group_use(group, (pid, instance.host.config.groups))?;
        if used.is_member {
            return Ok(false);
        }
        used.is_member = self.groups().add(group, &instance, limit, |group| &mut group.members);
        let is_member = used.is_member;
        state.forget_unused_groups();
        drop(state);
        if !is_member {
            return Err(GroupError::TooManyMembers { group: group.clone(), limit });
        }
        self.groups().tell_watchers(group);
        Ok(true)
    }

    /// Ends the membership of a process in a group. Returns whether it was a member.
    pub fn leave(&self, group: &GroupId, pid: Pid) -> bool {
        let Some(instance) = self.find(pid) else { return false };
        let mut state = instance.state();
        let used = state.group_uses().iter_mut().find(|used| used.group == *group && used.is_member);
        let Some(used) = used else { return false };
        used.is_member = false;
        state.forget_unused_groups();
        self.groups().remove(group, pid, |group| &mut group.members);
        drop(state);
        self.groups().tell_watchers(group);
        true
    }

    /// The members of a group that live, the oldest first.
    pub fn members(&self, group: &GroupId) -> Vec<Pid> {
        let members = self.groups().members(group);
        members.iter().filter(|member| !member.has_ended()).map(|member| member.pid).collect()
    }

    /// Sends a message to each member of a group that has room in its mailbox, and waits for none. So a slow member holds up
    /// neither the sender nor the others; it misses messages. Each member receives the message once at most, the sender
    /// included if it is a member.
    ///
    /// The message is like one of [`try_send`](Self::try_send), and each member has a copy of the payload.
    ///
    /// ```
    /// use frame_dispatch::Functions;
    /// use frame_dispatch::process::{GroupId, HostConfig, ProcessContext, ProcessManager, Spawn};
    /// use frame_registry::{App, Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// processes.register("app:reader".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     ctx.receive().await;
    /// })?;
    ///
    /// let (root, news) = (functions.root(), GroupId::new("app:workers".parse()?, "news")?);
    /// for _ in 0..3 {
    ///     let reader = processes.spawn(&root, Spawn::new("app:workers".parse()?, "app:reader".parse()?))?;
    ///     processes.join(&news, reader)?;
    /// }
    /// let published = processes.publish(&root, &news, json!("it rains")).await;
    /// assert_eq!((published.delivered, published.full), (3, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, some members have the message. It lets other tasks run while it sends to many members.
    pub async fn publish(
        &self,
        ctx: &CallContext,
        group: &GroupId,
        payload: impl Into<Payload>,
    ) -> Published {
        let mut payload = payload.into();
        let mut published = Published::default();
        let mut members = self.groups().members(group).into_iter();
        let mut began = std::time::Instant::now();
        while let Some(member) = members.next() {
            consume_budget().await;
            // Copies of a large payload take longer than the budget knows.
            if began.elapsed() > LONGEST_POLL {
                yield_now().await;
                began = std::time::Instant::now();
            }
            let copy = if members.len() == 0 { std::mem::take(&mut payload) } else { payload.clone() };
            match member.mailbox.try_send(Message::sent(ctx, copy, None)) {
                Ok(()) => published.delivered += 1,
                Err(Refused::Full(_)) => published.full += 1,
                Err(Refused::Closed(_)) => (),
            }
        }
        published
    }
}

impl ProcessContext {
    /// The name of a group on the host of this process.
    ///
    /// # Errors
    ///
    /// [`GroupError::InvalidName`] if no group can have that name.
    pub fn group(&self, name: &str) -> Result<GroupId, GroupError> {
        GroupId::new(self.instance().host.id.clone(), name)
    }

    /// Makes this process a member of a group. Returns whether it was none before.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn join(&self, group: &GroupId) -> Result<bool, GroupError> {
        self.processes().join(group, self.pid())
    }

    /// Leaves a group. Returns whether this process was a member.
    pub fn leave(&self, group: &GroupId) -> bool {
        self.processes().leave(group, self.pid())
    }

    /// Watches a group: this process receives [`Message::GroupChanged`] after members have joined or left, which they do when they
    /// end. Returns whether it did not watch the group before.
    ///
    /// There is one unread message of each group at most, however often it changes, so watching costs no room in the mailbox.
    /// Look at the [members](ProcessManager::members) after watching, and after each message. A group that is watched counts as
    /// one that the process is in, and 64 processes may watch a group.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn watch_group(&self, group: &GroupId) -> Result<bool, GroupError> {
        let instance = self.shared_instance();
        self.processes().group_limit(group)?;
        let mut state = instance.state();
        if let Some(exit) = state.exit_of(instance.pid) {
            return Err(ProcessError::Ended { exit }.into());
        }
        let used = state.group_use(group, (instance.pid, instance.host.config.groups))?;
        if used.watch != Watch::No {
            return Ok(false);
        }
        let limit = MOST_WATCHERS;
        let is_added = self.processes().groups().add(group, &instance, limit, |group| &mut group.watchers);
        used.watch = if is_added { Watch::Yes } else { Watch::No };
        state.forget_unused_groups();
        if is_added { Ok(true) } else { Err(GroupError::TooManyWatchers { group: group.clone(), limit }) }
    }

    /// Watches a group no more. No message of a change is in the mailbox afterwards, and none will be. Returns whether this
    /// process watched the group.
    pub fn unwatch_group(&self, group: &GroupId) -> bool {
        let instance = self.instance();
        let mut state = instance.state();
        let used = state.group_uses().iter_mut().find(|used| used.group == *group && used.watch != Watch::No);
        let Some(used) = used else { return false };
        let is_told = std::mem::replace(&mut used.watch, Watch::No) == Watch::Told;
        state.forget_unused_groups();
        self.processes().groups().remove(group, instance.pid, |group| &mut group.watchers);
        if is_told {
            let is_of_group =
                |message: &Message| matches!(message, Message::GroupChanged(other) if other == group);
            let discarded = instance.mailbox.discard(is_of_group);
            drop(discarded);
        }
        true
    }

    /// [Publishes](ProcessManager::publish) a message to a group.
    ///
    /// # Cancel safety
    ///
    /// As that of [`ProcessManager::publish`].
    pub async fn publish(&self, group: &GroupId, payload: impl Into<Payload>) -> Published {
        self.processes().publish(self.ctx(), group, payload).await
    }
}
