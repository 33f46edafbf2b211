//! What a reload changed.

use std::collections::BTreeMap;
use std::fmt;

use frame_registry::Id;
use serde::Serialize;
use serde_json::Value as Json;

use super::plan::Plan;
use crate::manifest::Given;

/// What a reload changed. Shown it is one line; nothing is `nothing`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Changes {
    /// Whether what is started from now on has other default options.
    pub options: bool,
    /// Whether requests are made with other settings of `[http]` from now on, or other certificates.
    pub http: bool,
    /// Overlay networks.
    pub networks: Changed,
    /// Secrets. One whose value is another is replaced.
    pub secrets: Changed,
    /// Functions.
    pub functions: Changed,
    /// Hosts of processes.
    pub hosts: Changed,
    /// What processes are started from.
    pub processes: Changed,
    /// Supervisors.
    pub supervisors: Changed,
    /// Supervisors that have the same children in another order.
    pub reordered: Vec<String>,
    /// Children that were restarted as something else, and supervisors that were restarted with all their children.
    pub restarted: Vec<String>,
}

/// What changed of one kind, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Changed {
    /// Those that are new.
    pub added: Vec<String>,
    /// Those that were something else.
    pub replaced: Vec<String>,
    /// Those that are no more.
    pub removed: Vec<String>,
}

impl Changes {
    pub(super) fn between(old: &Plan, new: &Plan, restarted: Vec<String>) -> Self {
        let mut supervisors = Changed::between(&old.supervisors, &new.supervisors);
        let is_reordered = |id: &String| {
            let of = |plan: &Plan| {
                let given = plan.supervisors.get(&id.parse().ok()?)?;
                Some(without_order(&given.identity))
            };
            of(old) == of(new)
        };
        let (reordered, replaced) = supervisors.replaced.into_iter().partition(is_reordered);
        supervisors.replaced = replaced;
        Self {
            http: false,
            options: old.defaults.identity != new.defaults.identity,
            networks: Changed::between(&old.networks, &new.networks),
            secrets: Changed::by(&old.secrets, &new.secrets, |old, new| old != new),
            functions: Changed::between(&old.functions, &new.functions),
            hosts: Changed::between(&old.hosts, &new.hosts),
            processes: Changed::between(&old.processes, &new.processes),
            supervisors,
            reordered,
            restarted,
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a supervisor is, whatever the order of its children.
fn without_order(identity: &Json) -> Json {
    let mut identity = identity.clone();
    if let Some(children) = identity.get_mut("children").and_then(Json::as_array_mut) {
        children.sort_by_cached_key(Json::to_string);
    }
    identity
}

impl Changed {
    fn between<K, T>(old: &BTreeMap<Id<K>, Given<T>>, new: &BTreeMap<Id<K>, Given<T>>) -> Self {
        Self::by(old, new, |old, new| old.identity != new.identity)
    }

    fn by<K, V>(old: &BTreeMap<Id<K>, V>, new: &BTreeMap<Id<K>, V>, differ: impl Fn(&V, &V) -> bool) -> Self {
        let ids = |ids: Vec<&Id<K>>| ids.into_iter().map(|id| id.as_str().to_owned()).collect();
        let is_other =
            |id: &&Id<K>| old.get(id).is_some_and(|old| new.get(id).is_some_and(|new| differ(old, new)));
        Self {
            added: ids(new.keys().filter(|id| !old.contains_key(id)).collect()),
            replaced: ids(new.keys().filter(is_other).collect()),
            removed: ids(old.keys().filter(|id| !new.contains_key(id)).collect()),
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut said = Vec::new();
        if self.options {
            said.push("default options replaced".to_owned());
        }
        if self.http {
            said.push("`[http]` replaced".to_owned());
        }
        let kinds = [
            ("networks", &self.networks),
            ("secrets", &self.secrets),
            ("functions", &self.functions),
            ("hosts", &self.hosts),
            ("processes", &self.processes),
            ("supervisors", &self.supervisors),
        ];
        for (kind, changed) in kinds {
            let Changed { added, replaced, removed } = changed;
            for (what, ids) in [("added", added), ("replaced", replaced), ("removed", removed)] {
                if !ids.is_empty() {
                    said.push(format!("{kind} {what}: {}", ids.join(", ")));
                }
            }
        }
        if !self.reordered.is_empty() {
            said.push(format!("supervisors reordered: {}", self.reordered.join(", ")));
        }
        if !self.restarted.is_empty() {
            said.push(format!("restarted: {}", self.restarted.join(", ")));
        }
        f.write_str(&said.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_said_in_one_line() {
        assert_eq!(Changes::default().to_string(), "nothing");
        let functions = Changed {
            added: vec!["app:new".to_owned()],
            replaced: vec!["app:one".to_owned(), "app:other".to_owned()],
            removed: Vec::new(),
        };
        let changes =
            Changes { options: true, functions, restarted: vec!["ticker".to_owned()], ..Changes::default() };
        assert_eq!(
            changes.to_string(),
            "default options replaced; functions added: app:new; functions replaced: app:one, app:other; \
             restarted: ticker"
        );
    }
}
