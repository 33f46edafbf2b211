//! Groups of processes, to which messages are published.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustc_hash::FxBuildHasher;
use tokio::task::coop::consume_budget;

use super::ctx::ProcessCtx;
use super::error::ProcessError;
use super::host::HostId;
use super::instance::Instance;
use super::mailbox::Refused;
use super::manager::ProcessManager;
use super::message::Message;
use super::names;
use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;

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
    /// The process is in as many groups as it may be.
    #[error("{pid} is in {limit} groups, which is the limit (`groups` of its host); leave one first")]
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
    /// The process does not live.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl From<GroupError> for CallError {
    fn from(error: GroupError) -> Self {
        let kind = match error {
            GroupError::InvalidName { .. } => ErrorKind::Invalid,
            GroupError::UnknownHost { .. } => ErrorKind::NotFound,
            GroupError::TooManyGroups { .. } | GroupError::TooManyMembers { .. } => ErrorKind::Exhausted,
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

/// The groups that have members.
#[derive(Default)]
pub(super) struct Groups {
    /// Members by the number of their PID: the oldest first.
    members: DashMap<GroupId, BTreeMap<u64, Arc<Instance>>, FxBuildHasher>,
}

impl Groups {
    fn members(&self, group: &GroupId) -> Vec<Arc<Instance>> {
        let members = self.members.get(group);
        members.map(|members| members.values().cloned().collect()).unwrap_or_default()
    }

    /// Removes a member. The caller may hold its state.
    pub(super) fn remove(&self, group: &GroupId, pid: Pid) -> bool {
        let Entry::Occupied(mut members) = self.members.entry(group.clone()) else { return false };
        let removed = members.get_mut().remove(&pid.number());
        if members.get().is_empty() {
            members.remove();
        }
        removed.is_some()
    }
}

impl ProcessManager {
    /// Makes a process a member of a group, until it leaves or ends. Returns whether it was none before.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn join(&self, group: &GroupId, pid: Pid) -> Result<bool, GroupError> {
        let host =
            self.host(&group.host).ok_or_else(|| GroupError::UnknownHost { host: group.host.clone() })?;
        let instance = self.living(pid)?;
        // The state is locked first, so that a process that ends leaves the group, or has ended before.
        let mut state = instance.state();
        if let Some(exit) = state.exit.clone() {
            return Err(ProcessError::Ended { exit }.into());
        }
        let groups = &mut state.relations().groups;
        if groups.contains(group) {
            return Ok(false);
        }
        let limit = instance.host.config.groups;
        if groups.len() >= limit {
            return Err(GroupError::TooManyGroups { pid, limit });
        }
        let limit = host.config.group_members;
        let too_many = || Err(GroupError::TooManyMembers { group: group.clone(), limit });
        match self.groups().members.entry(group.clone()) {
            Entry::Occupied(members) if members.get().len() >= limit => return too_many(),
            Entry::Occupied(mut members) => {
                members.get_mut().insert(pid.number(), Arc::clone(&instance));
            }
            Entry::Vacant(_) if limit == 0 => return too_many(),
            Entry::Vacant(group) => {
                group.insert(BTreeMap::from([(pid.number(), Arc::clone(&instance))]));
            }
        }
        groups.push(group.clone());
        Ok(true)
    }

    /// Ends the membership of a process in a group. Returns whether it was a member.
    pub fn leave(&self, group: &GroupId, pid: Pid) -> bool {
        let Some(instance) = self.find(pid) else { return false };
        let mut state = instance.state();
        let is_member = state.removes(|relations| {
            let before = relations.groups.len();
            relations.groups.retain(|other| other != group);
            relations.groups.len() < before
        });
        is_member && self.groups().remove(group, pid)
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
    /// use frame_dispatch::process::{GroupId, HostConfig, ProcessCtx, ProcessManager, Start};
    /// use frame_registry::{App, Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// processes.register("app:reader".parse()?, Options::new(), async |mut ctx: ProcessCtx| {
    ///     ctx.receive().await;
    /// })?;
    ///
    /// let (root, news) = (functions.root(), GroupId::new("app:workers".parse()?, "news")?);
    /// for _ in 0..3 {
    ///     let reader = processes.start(&root, Start::new("app:workers".parse()?, "app:reader".parse()?))?;
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
    pub async fn publish(&self, ctx: &Ctx, group: &GroupId, payload: impl Into<Payload>) -> Published {
        let mut payload = payload.into();
        let mut published = Published::default();
        let mut members = self.groups().members(group).into_iter();
        while let Some(member) = members.next() {
            consume_budget().await;
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

impl ProcessCtx {
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

    /// [Publishes](ProcessManager::publish) a message to a group.
    ///
    /// # Cancel safety
    ///
    /// As that of [`ProcessManager::publish`].
    pub async fn publish(&self, group: &GroupId, payload: impl Into<Payload>) -> Published {
        self.processes().publish(self.ctx(), group, payload).await
    }
}
