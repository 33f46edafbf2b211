//! Turning an app that runs into what another manifest says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use frame_net::http::HttpClient;
use frame_registry::Id;
use serde::Serialize;
use serde_json::Value as Json;

use super::check::Purpose;
use super::compile::compile;
use super::live::{Core, Live, http_client};
use super::plan::Plan;
use super::regroup::regroup;
use crate::manifest::{Given, Manifest, Problem, Problems};

/// An app was not made what a manifest says.
pub(crate) struct NotReloaded {
    /// All that is wrong.
    pub(crate) problems: Problems,
    /// Why it was not put back either, if it was not.
    pub(crate) not_restored: Option<Problem>,
}

impl From<Vec<Problem>> for NotReloaded {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems: Problems::new(problems), not_restored: None }
    }
}

/// Makes the app what `manifest` says, and returns the plan of that and what changed. Returns `None`, and has changed nothing, if
/// `superseded` was done before everything was compiled.
///
/// # Errors
///
/// All that is wrong. The app is then what `old` says, unless it could not be put back.
pub(crate) async fn reload(
    core: &Core,
    live: &mut Live,
    (before, old): (&Manifest, &Plan),
    manifest: &Manifest,
    grace: Duration,
    superseded: impl Future<Output = ()>,
) -> Result<Option<(Plan, Changes)>, NotReloaded> {
    // Whatever can be wrong is to be known before anything changes.
    let mut problems = unchangeable(before, manifest);
    let http = http_client(manifest).map_err(|problem| problems.push(problem));
    let compiled = tokio::select! {
        biased;
        compiled = compile(manifest, &core.networks, &core.engines, Some(old), Purpose::Run) => compiled,
        () = superseded => return Ok(None),
    };
    let new = match compiled {
        Ok(new) if problems.is_empty() => new,
        Ok(_) => return Err(problems.into()),
        Err(more) => {
            let mut refused = NotReloaded::from(problems);
            refused.problems.append(more);
            return Err(refused);
        }
    };
    let client = &core.engines.http;
    // The files that it names may be others while it says the same.
    let is_other = |http: &HttpClient| {
        before.http_identity != manifest.http_identity || !client.has_same_certificates(http)
    };
    let before = http.ok().filter(is_other).map(|http| client.switch_to(&http));
    match converge(core, live, &new, grace).await {
        Ok(restarted) => {
            live.remove_retired(core, &new, grace).await;
            let changes = Changes { http: before.is_some(), ..Changes::between(old, &new, restarted) };
            Ok(Some((new, changes)))
        }
        Err(problem) => {
            if let Some(before) = before {
                drop(client.switch_to(&before));
            }
            let mut refused = NotReloaded::from(vec![problem]);
            refused.not_restored = restore(core, live, old, grace).await.err();
            if let Some(problem) = refused.not_restored.clone() {
                let why = format!("the app is not what it was before this reload: {}", problem.message);
                refused.problems.push(Problem { message: why, ..problem });
            }
            Err(refused)
        }
    }
}

/// Makes the app what `plan` says, from whatever it is after a reload that failed.
pub(crate) async fn restore(
    core: &Core,
    live: &mut Live,
    plan: &Plan,
    grace: Duration,
) -> Result<(), Problem> {
    let restored = converge(core, live, plan, grace).await;
    live.remove_retired(core, plan, grace).await;
    restored.map(drop)
}

/// Registers everything of the plan, new versions before old ones are asked to end. Returns what was restarted.
async fn converge(
    core: &Core,
    live: &mut Live,
    plan: &Plan,
    grace: Duration,
) -> Result<Vec<String>, Problem> {
    let is_root_new = live.apply(core, plan)?;
    regroup(core, live, plan, is_root_new, grace).await
}

/// What is different and cannot be in an app that runs.
fn unchangeable(before: &Manifest, manifest: &Manifest) -> Vec<Problem> {
    let file = &manifest.file;
    let refused = |path: &[&str], what: String| {
        let span = manifest.layout.whole(path).unwrap_or_default();
        Problem::new(file, span, format!("{what} cannot change while the app runs"))
    };
    let mut problems = Vec::new();
    let base = |manifest: &Manifest| manifest.base.as_ref().map(|base| base.identity.clone());
    let audit = |manifest: &Manifest| manifest.audit.as_ref().map(|audit| audit.identity.clone());
    // What they say is read when an app is booted, and is part of values that are written once.
    let written_once = [
        ("clearnet", before.clearnet != manifest.clearnet),
        ("limits", before.limits != manifest.limits),
        ("fs", base(before) != base(manifest)),
        ("audit", audit(before) != audit(manifest)),
        ("telemetry", before.otlp != manifest.otlp),
        #[cfg(feature = "wasm")]
        ("wasm", before.wasm != manifest.wasm),
    ];
    for (name, _) in written_once.into_iter().filter(|(_, is_other)| *is_other) {
        let help = "put back what it was, or restart the app";
        problems.push(refused(&[name], format!("`[{name}]`")).with_help(help));
    }
    if before.app.name != manifest.app.name {
        let help = format!("put back `{}`, or restart the app", before.app.name);
        problems.push(refused(&["app", "name"], "the name of the app".to_owned()).with_help(help));
    }
    if before.app.functions != manifest.app.functions {
        let help = format!("put back {}, or restart the app", before.app.functions.max_depth);
        problems.push(refused(&["app", "max_depth"], "`max_depth`".to_owned()).with_help(help));
    }
    for (id, host) in &manifest.hosts {
        if before.hosts.get(id).is_some_and(|before| before.identity != host.identity) {
            let help = "put back what it was, give the host another id, so that what lives there moves, or restart the app";
            problems.push(refused(&["hosts", id.as_str()], format!("the host `{id}`")).with_help(help));
        }
    }
    problems
}

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
    pub(crate) fn between(old: &Plan, new: &Plan, restarted: Vec<String>) -> Self {
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
